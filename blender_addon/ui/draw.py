"""Drawing shared by the panels of the 3D Viewport and of the Image Editor. Only reads; changes nothing."""

import functools
import math
from pathlib import Path
from typing import Any

from .. import browser, hdris
from ..backend_process import BackendState
from ..installer import InstallState, bundled_wheel, install_state
from ..languages import translate
from ..preferences import user_folder
from ..properties import active_plate, is_built
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
THUMBNAILS = ("plate", "normal", "albedo", "roughness", "reflectivity", "depth", "matte_map", "source_light")


@functools.cache
def bundled() -> tuple[Path, str] | None:
    """The wheel that this extension carries; looked for once, as panels are drawn often."""
    return bundled_wheel(Path(__file__).resolve().parents[1])


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
    return max(24, int(context.region.width / (7.5 * (context.preferences.system.ui_scale or 1.0))))


def job_status(layout: Any) -> None:
    """The job under way, with time left and Cancel."""
    job = session.job
    if job is None or not job.active:
        return
    box = layout.box().column()
    left = job.seconds_left
    percent = 100 * job.fraction
    text = f"{percent:.0f} %"
    if left is not None:
        text = translate("{percent:.0f} %, {seconds:.0f} s left", percent=percent, seconds=left)
    if hasattr(box, "progress"):
        box.progress(factor=job.fraction, text=text)
    box.label(text=job.text or job.title, icon="TIME")
    box.operator("platelight.cancel", icon="X")


def backend(layout: Any, context: Any) -> None:
    """State of the backend, start, stop, and the last message."""
    state = session.backend.poll() if session.backend is not None else BackendState.STOPPED
    found = bundled()
    install = install_state(user_folder() / "backend", found[1]) if found is not None else InstallState.READY
    icon, words = ICONS[state]
    if state is BackendState.STOPPED and session.other_backend:
        icon, words = "LINKED", "Another one answers"
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
    if session.job is not None and session.job.title.startswith("Installing"):
        job_status(layout)
    row = layout.row(align=True)
    row.operator("platelight.start_backend", text="Start", icon="PLAY")
    row.operator("platelight.stop_backend", text="Stop", icon="SNAP_FACE")
    if state is BackendState.FAILED and session.backend is not None:
        for line in session.backend.log_tail(3):
            layout.label(text=line[: characters(context)])
    if session.message:
        wrap(layout, session.message, characters(context), "ERROR" if session.is_error else "INFO")


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
    column.prop(active, "matte")
    if active.matte == "given":
        column.prop(active, "matte_path")
        if active.is_sequence:
            column.prop(active, "matte_offset")
    column.prop(active, "own_camera")
    if active.own_camera is None:
        column.prop(active, "fov")
    elif active.own_camera.type == "CAMERA":
        degrees = math.degrees(active.own_camera.data.angle_x)
        text = translate("Field of view {degrees:.1f}°, from the camera", degrees=degrees)
        column.label(text=text, icon="CAMERA_DATA")


def maps(layout: Any, state: Any) -> None:
    """Analyze, progress and thumbnails."""
    active = active_plate(state)
    if active is not None:
        layout.prop(active, "working_size")
    layout.operator("platelight.analyse", icon="NODE_COMPOSITING")
    if active is not None and active.is_sequence:
        layout.operator("platelight.analyse", text="Analyze Range", icon="SEQUENCE").whole_range = True
    job_status(layout)
    if active is None:
        return
    grid = layout.grid_flow(row_major=True, columns=3, even_columns=True, even_rows=True, align=True)
    for name in THUMBNAILS:
        image = getattr(active, name)
        if image is None:
            continue
        cell = grid.column(align=True)
        if image.preview is not None and image.preview.icon_id:
            cell.template_icon(icon_value=image.preview.icon_id, scale=3.0)
        cell.operator(
            "platelight.show_map", text=name.removesuffix("_map").replace("source_", "").capitalize()
        ).name = name
    layout.operator("platelight.save_maps", icon="FILE_TICK")


def light(layout: Any, state: Any) -> None:
    """Where the light comes from, rotation, exposure, the sun."""
    column = layout.column()
    column.prop(state, "light_from")
    if state.light_from == "HDRI":
        row = column.row(align=True)
        row.prop(state, "hdri")
        row.operator("platelight.set_light", text="", icon="FILEBROWSER")
    elif state.light_from == "PLATE":
        lender = next((p for p in state.plates if p.uid == state.light_plate), None)
        text = translate("Light of {name}", name=lender.name) if lender is not None else "No plate chosen"
        column.label(text=text, icon="LIGHT_SUN")
        column.prop(state, "light_gain")
    else:
        column.prop(state, "bake_height")
        column.prop(state, "bake_samples")
    if state.light_from == "SCENE":
        column.operator("platelight.match_scene_light", icon="LIGHTPROBE_SPHERE")
    else:
        row = column.row(align=True)
        row.prop(state, "rotation")
        row.operator("platelight.turn_light", text="", icon="CON_ROTLIKE")
        if state.light_from == "HDRI":
            column.prop(state, "hdri_strength")
        column.prop(state, "exposure")
        column.prop(state, "split_sun")
        if state.split_sun:
            column.prop(state, "sun_angle")
        column.operator("platelight.update_light", icon="FILE_REFRESH")
        column.separator()
        for plate in state.plates:
            if plate.source_light is not None:
                text = translate("Use Light of {name}", name=plate.name)
                column.operator("platelight.use_plate_light", text=text, icon="LIGHT_SUN").name = plate.name


def shelf(layout: Any, state: Any) -> None:
    """HDRIs that are here: thumbnails, each with a button that takes it."""
    row = layout.row(align=True)
    row.prop(state, "shelf", expand=True)
    row.operator("platelight.refresh_hdris", text="", icon="FILE_REFRESH")
    if state.shelf != "BLENDER":
        layout.prop(state, "shelf_words", icon="VIEWZOOM")
    found = hdris.shown(state.shelf, "" if state.shelf == "BLENDER" else state.shelf_words)
    grid = layout.grid_flow(row_major=True, columns=3, even_columns=True, even_rows=True, align=True)
    for path in found.files:
        cell = grid.column(align=True)
        cell.operator_context = "EXEC_DEFAULT"  # this file, without asking for another
        if icon := hdris.icon(path):
            cell.template_icon(icon_value=icon, scale=4.0)
        chosen = state.light_from == "HDRI" and state.hdri == str(path)
        cell.operator("platelight.set_light", text=path.stem, depress=chosen).filepath = str(path)
    if found.more:
        text = translate("{count} more: narrow the filter", count=found.more)
        layout.label(text=text, icon="INFO")
    if not found.files:
        layout.label(text="No HDRI is here", icon="INFO")
    if state.shelf == "FOLDERS":
        layout.operator("platelight.add_hdri_folder", icon="ADD")


def library(layout: Any, state: Any) -> None:
    """Poly Haven: search, results, resolution."""
    column = layout.column()
    column.prop(state, "browse_words", icon="VIEWZOOM")
    column.prop(state, "browse_category")
    for line in range(0, min(len(browser.page.categories), 8), 4):
        row = column.row(align=True)
        for name in browser.page.categories[line : line + 4]:
            choice = row.operator("wm.context_set_string", text=name.title())
            choice.data_path, choice.value = "scene.platelight.browse_category", name
    column.prop(state, "browse_resolution")
    column.operator("platelight.browse_hdris", icon="WORLD")
    if session.job is not None and session.job.title.startswith(("Searching", "Downloading")):
        job_status(layout)
    grid = layout.grid_flow(row_major=True, columns=3, even_columns=True, even_rows=True, align=True)
    for hdri in browser.page.hdris:
        cell = grid.column(align=True)
        if icon := browser.icon(hdri.id):
            cell.template_icon(icon_value=icon, scale=4.0)
        cell.operator("platelight.download_hdri", text=hdri.name).name = hdri.id


def preview(layout: Any, state: Any, in_viewport: bool) -> None:
    """Build, samples, render."""
    active = active_plate(state)
    column = layout.column()
    if active is not None:
        row = column.row(align=True)
        row.prop(active, "distance")
        row.operator("platelight.scale_from_width", text="", icon="DRIVER_DISTANCE")
        column.prop(active, "facet_size")
        column.prop(active, "shadow_proxy")
        if active.shadow_proxy:
            column.prop(active, "self_shadow")
            column.prop(active, "relief")
            column.prop(active, "roundness")
    column.prop(state, "engine")
    text = "Update Scene" if active is not None and is_built(active) else "Build Scene"
    column.operator("platelight.build_scene", text=text, icon="SCENE_DATA")
    column.prop(state, "samples")
    column.prop(state, "denoise")
    if in_viewport:
        column.operator("platelight.rendered_view", icon="SHADING_RENDERED")
    column.operator("platelight.render_preview", icon="RENDER_STILL")


def composite(layout: Any, state: Any) -> None:
    """Refine and output."""
    column = layout.column()
    column.prop(state, "strength")
    column.prop(state, "backdrop")
    if state.backdrop == "given":
        column.prop(state, "backdrop_path")
    column.prop(state, "output")
    column.operator("platelight.refine", icon="SHADERFX")
    active = active_plate(state)
    if active is not None and active.is_sequence:
        column.operator("platelight.relight_range", icon="SEQUENCE")
    column.separator()
    for name in ("edge", "light_wrap", "wrap_size", "grain"):
        column.prop(state, name)
    column.operator("platelight.composite", icon="NODETREE")
    column.operator("platelight.save_composite", icon="FILE_TICK")
