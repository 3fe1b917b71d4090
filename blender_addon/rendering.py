"""Settings of one preview render: set for it, and put back as the user had them."""

from pathlib import Path
from typing import Any, Self

from . import compat, lamps
from .scene import PASSES
from .temporary import Temporary


class RenderSetup:
    """Context manager: render one plate, alone, at its own size, into a multilayer EXR with passes."""

    def __init__(self, scene: Any, plate: Any, target: Path, samples: int = 0) -> None:
        self._scene = scene
        self._plate = plate
        self._target = target
        self._samples = samples or scene.platelight.samples

    def __enter__(self) -> Self:
        scene, plate = self._scene, self._plate
        render = scene.render
        kept = self._kept = Temporary(scene)
        compat.set_multilayer_exr(render.image_settings)
        kept.clear_markers(scene)
        for owner, name, value in (
            (scene, "camera", plate.camera),
            (render, "engine", compat.engine_id("CYCLES")),
            (render, "filepath", str(self._target)),
            (render, "resolution_x", plate.width),
            (render, "resolution_y", plate.height),
            (render, "resolution_percentage", 100),
            (render, "film_transparent", True),
            (render, "use_border", False),
            (render, "use_compositing", False),
            (render, "use_sequencer", False),
            (render, "use_file_extension", False),
            (render, "pixel_aspect_x", 1.0),
            (render, "pixel_aspect_y", 1.0),
            (render, "use_multiview", False),
            (plate.camera.data.dof, "use_dof", False),
            (scene.cycles, "samples", self._samples),
            (scene.cycles, "use_denoising", bool(scene.platelight.denoise and compat.can_denoise())),
            # Nothing but the card is seen, and its matte has the edges: a wider filter would blur its maps.
            (scene.cycles, "pixel_filter_type", "BLACKMAN_HARRIS"),
            (scene.cycles, "filter_width", 0.01),
            (scene.cycles, "denoising_prefilter", "NONE"),
        ):
            kept.set(owner, name, value)
        layer = compat.use_one_layer(kept, scene, plate.card)
        for name in PASSES:
            kept.set(layer, name, True)
        for other in scene.platelight.plates:
            if other.uid != plate.uid and other.card is not None:
                kept.set(other.card, "hide_render", True)
                if other.proxy is not None:
                    kept.set(other.proxy, "hide_render", True)
        kept.set(plate.card, "hide_render", False)
        for lamp in lamps.left_out(scene):
            kept.set(lamp, "hide_render", True)
        # The refiner takes the subject alone: what stands in front lights and shadows it, but is not seen.
        # So are empties, which show what they instance.
        for thing in scene.objects:
            if thing != plate.card and thing.type not in {"CAMERA", "LIGHT"}:
                kept.set(thing, "visible_camera", False)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._kept.put_back()
