"""Drawing shared by the panels of the 3D Viewport and of the Image Editor. Only reads; changes nothing."""

import functools
import math
from pathlib import Path
from typing import Any

from .. import compat
from ..backend_process import BackendState
from ..installer import InstallState, bundled_wheel, digest, install_state
from ..languages import translate
from ..lens import frustum
from ..plate_properties import is_built
from ..preferences import user_folder
from ..properties import active_plate
from ..session import session

ICONS: dict[BackendState, tuple[str, str]] = {
    BackendState.NOT_INSTALLED: ("ERROR", "Not installed"),
    BackendState.STOPPED: ("RADIOBUT_OFF", "Not started by this Blender"),
    BackendState.STARTING: ("TIME", "Starting"),
    BackendState.RUNNING: ("CHECKMARK", "Running"),
    BackendState.STOPPING: ("TIME", "Stopping"),
    BackendState.FAILED: ("ERROR", "Ended with an error"),
}
INSTALL: dict[InstallState, tuple[str, str]] = {
    InstallState.MISSING: ("INFO", "Not installed by this extension"),
    InstallState.INCOMPLETE: ("ERROR", "Installation was cut short"),
    InstallState.OUTDATED: ("INFO", "An older version is installed"),
}
THUMBNAILS = (
    ("plate", "Plate"),
    ("normal", "Normal"),
    ("albedo", "Albedo"),
    ("roughness", "Roughness"),
    ("reflectivity", "Reflectivity"),
    ("cavity", "Cavity"),
    ("depth", "Depth"),
    ("matte_map", "Matte"),
    ("source_light", "Light"),
)
# Where it is told why an operator failed: at the end of a panel, or under the buttons of a long one. All else is the Backend panel's.
FAILURES: dict[str, tuple[str, ...]] = {
    "plate": ("load_plate", "use_footage"),
    "analysis": ("analyse",),
    "maps": ("save_maps",),
    "light": ("match_scene_light", "set_light", "update_light", "use_plate_light"),
    "library": ("browse_hdris", "download_hdri"),
    "preview": ("build_scene", "scale_from_width", "drag_distance", "render_preview", "rendered_view"),
    "refiner": ("refine", "relight_range"),
    "composite": ("composite", "save_composite"),
}
RENDERED = (("preview", "Preview"), ("diffuse_pass", "Diffuse"), ("specular_pass", "Specular"))
FINISHED = (("result", "Result"), ("composite", "Composite"))


@functools.cache
def bundled() -> tuple[str, str] | None:
    """Version and SHA-256 of the wheel that this extension carries; looked for once, as panels are drawn often."""
    found = bundled_wheel(Path(__file__).resolve().parents[1])
    return (found[1], digest(found[0])) if found is not None else None


def wrap(layout: Any, text: str, width: int, icon: str = "NONE") -> None:
    """A sentence over several labels: Blender's do not wrap."""
    line = ""
    column = layout.column(align=True)
    for word in text.split():
        if line and len(line) + len(word) > width:
            column.label(text=line, icon=icon)
            line, icon = "", "BLANK1" if icon != "NONE" else "NONE"
        line = f"{line} {word}".strip()
    if line:
        column.label(text=line, icon=icon)


def characters(context: Any) -> int:
    """About how many characters a label of this region holds."""
    return max(24, int(context.region.width / (8.5 * (context.preferences.system.ui_scale or 1.0))))


def failure(layout: Any, context: Any, place: str) -> None:
    """Why one of the operators of a place failed just now."""
    if session.is_error and session.where in FAILURES.get(place, ()):
        wrap(layout.box(), session.message, characters(context), "ERROR")


def job_status(layout: Any, *titles: str) -> bool:
    """The job under way, with time left and Cancel, where its title begins with one of these; whether it does."""
    job = session.job
    if job is None or not job.active or not job.title.startswith(titles):
        return False
    box = layout.box().column()
    left = job.seconds_left
    percent = 100 * job.fraction
    text = f"{percent:.0f} %"
    if left is not None:
        text = translate("{percent:.0f} %, {seconds:.0f} s left", percent=percent, seconds=left)
    if hasattr(box, "progress"):
        box.progress(factor=job.fraction, text=text)
    box.label(text=job.title, icon="TIME")
    if job.text:
        box.label(text=job.text[:1].upper() + job.text[1:], icon="BLANK1")
    box.operator("platelight.cancel", icon="X")
    return True


def backend(layout: Any, context: Any) -> None:
    """State of the backend, start, stop, and the last message."""
    state = session.backend.poll() if session.backend is not None else BackendState.STOPPED
    found = bundled()
    install = install_state(user_folder() / "backend", *found) if found is not None else InstallState.READY
    icon, words = ICONS[state]
    if state is BackendState.STOPPED and session.other_backend:
        icon, words = "LINKED", "Running, started elsewhere"
    elif state is BackendState.STOPPED and install is not InstallState.READY:
        icon, words = INSTALL[install]
    row = layout.row()
    row.label(text=words, icon=icon)
    row.operator("platelight.test_backend", text="", icon="FILE_REFRESH")
    if session.facts is not None and state is not BackendState.FAILED:
        devices = ", ".join(session.facts.devices).upper()
        text = translate(
            "{devices}, {size:.2f} GiB of memory", devices=devices, size=session.facts.memory / (1 << 30)
        )
        layout.label(text=text, icon="MEMORY")
    if install is not InstallState.READY and not session.other_backend:
        text = "Upgrade Backend" if install is InstallState.OUTDATED else "Install Backend"
        layout.operator("platelight.install_backend", text=text, icon="IMPORT")
    told = job_status(layout, "Installing", "Starting", "Testing")
    row = layout.row(align=True)
    row.operator("platelight.start_backend", text="Start", icon="PLAY")
    row.operator("platelight.stop_backend", text="Stop", icon="SNAP_FACE")
    if state is BackendState.FAILED and session.backend is not None:
        for line in session.backend.log_tail(3):
            layout.label(text=line[: characters(context)])
    job = session.job
    if session.message and not any(session.where in names for names in FAILURES.values()):
        wrap(layout, session.message, characters(context), "ERROR" if session.is_error else "INFO")
    elif job is not None and job.active and not told:
        layout.label(
            text=job.title, icon="TIME"
        )  # in the message's place, so that panels below stay where they are


def plate(layout: Any, state: Any) -> None:
    """List of plates and the properties of the active one."""
    row = layout.row()
    row.template_list("PLATELIGHT_UL_plates", "", state, "plates", state, "active", rows=2)
    buttons = row.column(align=True)
    buttons.operator("platelight.load_plate", icon="ADD", text="")
    buttons.menu("PLATELIGHT_MT_footage", icon="DOWNARROW_HLT", text="")
    buttons.operator("platelight.remove_plate", icon="REMOVE", text="")
    active = active_plate(state)
    if active is None:
        layout.operator("platelight.load_plate", icon="FILE_IMAGE")
        return
    column = layout.column()
    if active.is_sequence:
        row = column.row(align=True)
        row.prop(active, "frame_first", text="Frames")
        row.prop(active, "frame_last", text="")
        column.prop(active, "frame_offset")
        column.prop(active, "colorspace")
    else:  # a still was decoded when it was loaded
        column.label(text=translate("Color space: {name}", name=active.colorspace or "auto"), icon="COLOR")
    column.prop(active, "matte")
    if active.matte == "given":
        column.prop(active, "matte_path")
        if active.is_sequence:
            column.prop(active, "matte_offset")
    column.prop(active, "own_camera")
    if active.own_camera is None:
        row = column.row(align=True)
        row.prop(active, "fov", text="Field of View (°)")
        row.operator("platelight.fov_from_lens", text="", icon="CAMERA_DATA")
    elif active.own_camera.type == "CAMERA":
        degrees = 2.0 * math.degrees(
            math.atan(frustum(active.own_camera, active.width, active.height).across)
        )
        text = translate("Field of view {degrees:.1f}°, from the camera", degrees=degrees)
        column.label(text=text, icon="CAMERA_DATA")


def maps(layout: Any, context: Any) -> None:
    """Analyze, progress and thumbnails."""
    active = active_plate(context.scene.platelight)
    if active is not None:
        layout.prop(active, "working_size")
        layout.prop(active, "faces")
    layout.operator("platelight.analyse", icon="NODE_COMPOSITING")
    if active is not None and active.is_sequence:
        layout.operator("platelight.analyse", text="Analyze Range", icon="SEQUENCE").whole_range = True
    job_status(layout, "Analyzing")
    failure(layout, context, "analysis")
    if active is None:
        return
    thumbnails(layout, active, THUMBNAILS)
    layout.operator("platelight.save_maps", icon="FILE_TICK")


def thumbnails(layout: Any, plate: Any, names: tuple[tuple[str, str], ...]) -> None:
    """Those pictures of a plate that there are, each with the button that shows it."""
    grid = layout.grid_flow(row_major=True, columns=3, even_columns=True, even_rows=True, align=True)
    for name, title in names:
        image = getattr(plate, name)
        if image is None:
            continue
        cell = grid.column(align=True)
        icon = image.preview.icon_id if image.preview is not None else layout.icon(image)
        cell.template_icon(icon_value=icon, scale=3.0)
        cell.operator("platelight.show_map", text=title).name = name


def preview(layout: Any, state: Any, in_viewport: bool) -> None:
    """Build, samples, render."""
    active = active_plate(state)
    column = layout.column()
    if active is not None:
        row = column.row(align=True)
        row.prop(active, "distance")
        row.operator("platelight.drag_distance", text="", icon="ARROW_LEFTRIGHT")
        row.operator("platelight.scale_from_width", text="", icon="DRIVER_DISTANCE")
        column.prop(active, "facet_size")
        column.prop(active, "skin")
        if active.skin:
            column.prop(active, "skin_radius")
        column.prop(active, "shadow_proxy")
        if active.shadow_proxy:
            column.prop(active, "self_shadow")
            column.prop(active, "relief")
            column.prop(active, "roundness")
    column.prop(state, "engine")
    text = "Update Scene" if active is not None and is_built(active) else "Build Scene"
    column.operator("platelight.build_scene", text=text, icon="SCENE_DATA")
    column.prop(state, "samples")
    row = column.row()
    row.enabled = compat.can_denoise()
    row.prop(state, "denoise")
    if in_viewport:
        column.operator("platelight.rendered_view", icon="SHADING_RENDERED")
    column.operator("platelight.render_preview", icon="RENDER_STILL")
    if active is not None:
        thumbnails(layout, active, RENDERED)


def composite(layout: Any, context: Any) -> None:
    """Refine and output."""
    state = context.scene.platelight
    column = layout.column()
    column.prop(state, "physics")
    if state.physics == "BACKEND":
        column.prop(state, "shadows")
    column.prop(state, "strength")
    column.prop(state, "backdrop")
    if state.backdrop == "given":
        column.prop(state, "backdrop_path")
    column.prop(state, "output")
    column.operator("platelight.refine", icon="SHADERFX")
    active = active_plate(state)
    if active is not None and active.is_sequence:
        column.operator("platelight.relight_range", icon="SEQUENCE")
    if session.series is not None:
        frame, number, count = session.series
        text = translate("Frame {frame}, {number} of {count}", frame=frame, number=number, count=count)
        column.label(text=text, icon="SEQUENCE")
    job_status(column, "Refining", "Compositing")
    failure(column, context, "refiner")
    if active is not None:
        thumbnails(column, active, FINISHED)
    column.separator()
    for name in ("edge", "light_wrap", "wrap_size", "grain"):
        column.prop(state, name)
    column.operator("platelight.composite", icon="NODETREE")
    column.operator("platelight.save_composite", icon="FILE_TICK")
