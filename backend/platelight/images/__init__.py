"""Pictures in and out: EXR, PNG, TIFF, JPEG and HDR, color, sequences; every output is written whole or not.

Pixels are float32 linear Rec.709, row 0 at the top; see the functions for shapes and alpha.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from platelight.images.sanitize import Counts, sanitize

if TYPE_CHECKING:
    from platelight.images.maps import MAP_CHANNELS, read_maps, write_light, write_maps, write_relit
    from platelight.images.plate import Plate, read_light, read_matte, read_plate
    from platelight.images.raster import write_normal_png, write_png, write_png_values
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

# By the first use only: training on a bare GPU machine needs this package's atomic writes, not its film formats.
_HOMES = {
    "maps": ("MAP_CHANNELS", "read_maps", "write_light", "write_maps", "write_relit"),
    "plate": ("Plate", "read_light", "read_matte", "read_plate"),
    "raster": ("write_normal_png", "write_png", "write_png_values"),
    "sequence": ("Frame", "expand", "parse_frames"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
