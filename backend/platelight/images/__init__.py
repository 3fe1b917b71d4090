"""Pictures in and out: EXR, PNG, TIFF, JPEG and HDR, color, sequences; every output is written whole or not.

Pixels are float32 linear Rec.709, row 0 at the top; see the functions for shapes and alpha.
"""

from platelight.images.maps import MAP_CHANNELS, read_maps, write_light, write_maps, write_relit
from platelight.images.plate import Plate, read_light, read_matte, read_plate
from platelight.images.raster import write_normal_png, write_png, write_png_values
from platelight.images.sanitize import Counts, sanitize
from platelight.images.sequence import Frame, expand, parse_frames

__all__ = [
    "MAP_CHANNELS",
    "Counts",
    "Frame",
    "Plate",
    "expand",
    "parse_frames",
    "read_light",
    "read_maps",
    "read_matte",
    "read_plate",
    "sanitize",
    "write_light",
    "write_maps",
    "write_normal_png",
    "write_png",
    "write_png_values",
    "write_relit",
]
