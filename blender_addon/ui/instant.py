"""The instant preview's lines in the Light panel. Only reads; changes nothing."""

from typing import Any

from .. import instant


def draw(layout: Any, state: Any) -> None:
    """On, off, by what, and whether it is still reading."""
    row = layout.row(align=True)
    row.operator("platelight.instant_preview", icon="SHADING_RENDERED", depress=instant.is_on())
    if instant.is_busy():
        row.label(text="", icon="TIME")
    layout.row().prop(state, "instant_by", text="By", expand=True)
