"""Drawing of the light: where it comes from, lamps, HDRIs that are here, Poly Haven. Only reads; changes nothing."""

from typing import Any

from .. import browser, hdris, lamps
from ..languages import translate
from ..properties import active_plate
from .draw import job_status


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
        column.prop(state, "bake_points")
    if state.light_from == "SCENE":
        column.operator("platelight.match_scene_light", icon="LIGHTPROBE_SPHERE")
        column.label(text="Lamps are in the scene's light", icon="LIGHT")
    else:
        row = column.row(align=True)
        row.prop(state, "rotation", text="Rotation (°)")
        row.operator("platelight.turn_light", text="", icon="CON_ROTLIKE")
        if state.light_from == "HDRI":
            column.prop(state, "hdri_strength")
        column.prop(state, "exposure", text="Exposure (EV)")
        column.prop(state, "split_sun")
        if state.split_sun:
            column.prop(state, "sun_angle")
        column.operator("platelight.update_light", icon="FILE_REFRESH")
        column.separator()
        _lamps(column, state)
        column.separator()
        for plate in state.plates:
            if plate.source_light is not None:
                text = translate("Use Light of {name}", name=plate.name)
                column.operator("platelight.use_plate_light", text=text, icon="LIGHT_SUN").name = plate.name


def _lamps(column: Any, state: Any) -> None:
    """Which lamps of the scene count, and how many these are."""
    column.prop(state, "lamps")
    if state.lamps == "COLLECTION":
        column.prop(state, "lamp_collection", text="")
    if state.lamps != "NONE":
        active = active_plate(state)
        found = lamps.chosen(state.id_data, active.card if active is not None else None)
        count = translate("Lamps that light the plate: {count}", count=len(found))
        column.label(text=count, icon="LIGHT")


def shelf(layout: Any, state: Any) -> None:
    """HDRIs that are here: thumbnails, each with a button that takes it."""
    row = layout.row(align=True)
    row.use_property_split = False
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
    names = ("all", *browser.page.categories[:7]) if browser.page.categories else ()
    for line in range(0, len(names), 4):
        row = column.row(align=True)
        for name in names[line : line + 4]:
            choice = row.operator(
                "wm.context_set_string", text=name.title(), depress=state.browse_category == name
            )
            choice.data_path, choice.value = "scene.platelight.browse_category", name
    column.prop(state, "browse_resolution")
    column.operator("platelight.browse_hdris", icon="WORLD")
    job_status(layout, "Searching", "Downloading")
    grid = layout.grid_flow(row_major=True, columns=3, even_columns=True, even_rows=True, align=True)
    for hdri in browser.page.hdris:
        cell = grid.column(align=True)
        if icon := browser.icon(hdri.id):
            cell.template_icon(icon_value=icon, scale=4.0)
        cell.operator("platelight.download_hdri", text=hdri.name).name = hdri.id
