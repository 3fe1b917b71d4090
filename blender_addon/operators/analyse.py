"""Analyze: the plate goes to the backend, its maps come back; of a sequence one frame or all."""

import json
from typing import Any, NamedTuple

import bpy

from .. import mapfiles, maps, preferences, remote, scene, wire
from ..jobs import Reporter, Work
from ..modal import JobOperator
from ..properties import active_plate, plate_by_uid
from ..session import session
from .common import has_plate, idle


class _Analyzed(NamedTuple):
    files: mapfiles.Files
    meta: dict[str, Any]
    frames: int
    empty: int  # of these


class PLATELIGHT_OT_analyse(JobOperator, bpy.types.Operator):
    """Take the plate apart into normal, albedo, roughness, reflectivity, cavity, depth, matte and its own light"""

    bl_idname = "platelight.analyse"
    bl_label = "Analyze"
    bl_options = {"REGISTER", "UNDO"}

    whole_range: bpy.props.BoolProperty(
        name="Whole Range",
        description="All frames of a sequence, from the plate's first to its last; else the current one",
        default=False,
        options={"SKIP_SAVE"},
    )

    neutral: bpy.props.BoolProperty(
        name="Neutral Maps",
        description="Neutral maps where no frame shows a subject, in place of an error: frames of a longer shot",
        default=False,
        options={"SKIP_SAVE", "HIDDEN"},
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a plate and no other job."""
        return idle(cls) and has_plate(cls, context)

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Find the plate's pixels and copy the options."""
        plate = active_plate(context.scene.platelight)
        if plate is None:
            raise wire.InputError("This scene has no plate.", "Load one first.")
        self._uid = plate.uid
        frames: list[int | None] = [maps.current_frame(plate)]
        if plate.is_sequence and self.whole_range:
            frames = list(range(plate.frame_first, plate.frame_last + 1))
            if not frames:
                raise wire.InputError(f"{plate.name} ends before it begins.", "Set its first and last frame.")
        folder = maps.map_folder(plate)
        root, quota, kept = preferences.user_folder(), preferences.cache_quota(), maps.in_use() | {folder}
        sources = {frame: maps.plate_source(plate, frame) for frame in frames}
        given = plate.matte == "given"
        mattes = {frame: scene.matte_source(plate, frame) for frame in frames} if given else {}
        own_file, neutral, channels = bool(plate.matte_path), self.neutral, scene.plate_channels(plate)
        request = wire.Decompose(
            matte=plate.matte,
            working_size=plate.working_size,
            fov=scene.field_of_view(plate),
            faces="on" if plate.faces else "off",
            halves=True,  # as the files of maps are
        )
        settings = preferences.settings()
        process = session.backend = remote.ensure_backend(settings, session.backend)
        session.other_backend = process is None

        def work(reporter: Reporter) -> _Analyzed:
            files: mapfiles.Files = {}
            meta: dict[str, Any] = {}
            empty: dict[int | None, tuple[int, ...]] = {}
            for index, frame in enumerate(frames):
                part = reporter.part(
                    index / len(frames), 1 / len(frames), "" if frame is None else f"frame {frame}"
                )
                planes = {"plate": scene.over_black(sources[frame].read(channels, reporter.on_main))}
                if given:
                    matte, shape = mattes[frame], planes["plate"].shape[:2]
                    pixels = matte.read(4, reporter.on_main)
                    planes["matte"] = scene.matte_of(pixels, shape, matte.name, own_file=own_file)
                try:
                    answer = remote.ask(settings, process, request, planes, part)
                except wire.NoSubjectError:
                    empty[frame] = planes["plate"].shape[:2]
                    if len(empty) == len(frames) and not neutral:
                        raise
                    continue
                files = mapfiles.write_maps(folder, scene.maps_of(answer.planes), frame)
                meta = answer.meta
            for frame, (height, width) in empty.items():
                made = mapfiles.write_maps(folder, scene.maps_of(wire.without_subject(height, width)), frame)
                files = files or made
            if quota is not None:
                mapfiles.trim(root, kept, quota)
            return _Analyzed(files, meta, len(frames), len(empty))

        return f"Analyzing {plate.name}", work

    def finish(self, _context: Any, value: _Analyzed) -> None:
        """Keep the maps, if the plate is still there."""
        found = plate_by_uid(self._uid)
        if found is None:
            raise wire.InputError("The plate was removed while it was analyzed.", "Load it again.")
        _, plate = found
        session.cache_bytes = None
        maps.attach(plate, value.files)
        maps.settle_cavity(plate, value.files)
        scene.shade_cavity(plate)
        plate.notes = json.dumps(value.meta, default=str)
        count = f", {value.frames} frames" if value.frames > 1 else ""
        if value.empty:
            count += f", {value.empty} without a subject" if count else ", without a subject"
        session.say(f"{plate.name} is analyzed{count}.")


CLASSES = (PLATELIGHT_OT_analyse,)
