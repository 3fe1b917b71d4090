"""A layout for drawing where there is no window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import bpy


class Layout:
    """Accepts what ``UILayout`` accepts and fails on properties, operators and icons that do not exist."""

    icons = frozenset(bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys())
    drawn: ClassVar[set[str]] = set()  # properties and operators of ours that any layout was given
    known = frozenset(bpy.types.UILayout.bl_rna.functions.keys())

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.enabled = True

    def prop(self, data: Any, name: str, **options: Any) -> None:
        assert name in data.bl_rna.properties, f"{data} has no {name}"
        description = data.bl_rna.properties[name].description
        assert description or data.bl_rna.properties[name].is_runtime is False, f"{name} has no tooltip"
        if "platelight" in data.bl_rna.identifier.lower():
            self.drawn.add(name)
        self._check("prop", options)

    def operator(self, name: str, **options: Any) -> Any:
        module, _, function = name.partition(".")
        kind = getattr(getattr(bpy.ops, module), function).get_rna_type()
        assert kind.description, f"{name} has no tooltip"
        if module == "platelight":
            self.drawn.add(name)
        self._check("operator", options)
        return SimpleNamespace()  # takes the operator's properties

    def label(self, text: str = "", **options: Any) -> None:
        self.texts.append(text)
        self._check("label", options)

    def progress(self, **options: Any) -> None:
        self.texts.append(options["text"])

    def template_list(
        self, kind: str, _id: str, data: Any, name: str, active: Any, active_name: str, **_o: Any
    ) -> None:
        assert hasattr(bpy.types, kind)
        assert name in data.bl_rna.properties
        assert active_name in active.bl_rna.properties

    def _check(self, function: str, options: dict[str, Any]) -> None:
        allowed = set(bpy.types.UILayout.bl_rna.functions[function].parameters.keys())
        assert set(options) <= allowed, (function, options)
        assert options.get("icon", "NONE") in self.icons, options

    def __getattr__(self, name: str) -> Any:
        assert name in self.known, f"UILayout has no {name}"
        return lambda *_args, **_options: self
