"""Every label, tooltip and reason of the extension, as Blender knows them, against the German table."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy

import blender_addon
from blender_addon import installer, languages, plate_properties, preferences, properties

ROOT = Path(blender_addon.__file__).parent
WORDS = re.compile(r"^(?=.*[a-z])[A-Z{][^\n_/\\]*$")  # what people read, not identifiers and icons
blender_addon.register()
needed: set[str] = set()


def from_rna(group: Any) -> None:
    inherited = set(bpy.types.Operator.bl_rna.properties.keys()) | {"rna_type"}
    for item in group.properties:
        ours = not (
            item.identifier in inherited or item.is_hidden or item.identifier.startswith(("bl_", "filter_"))
        )
        if ours or (item.identifier == "name" and group.identifier.startswith("PLATELIGHT_OT_")):
            needed.update({item.name, item.description})
            if item.type == "ENUM":
                for choice in item.enum_items:
                    needed.update({choice.name, choice.description})


for group in (
    preferences.PlatelightPreferences,
    preferences.PlatelightFolder,
    plate_properties.PlatelightPlate,
    properties.PlatelightScene,
):
    from_rna(group.bl_rna)
for name in dir(bpy.ops.platelight):
    kind = getattr(bpy.ops.platelight, name).get_rna_type()
    needed.update({kind.name, kind.description})
    from_rna(kind)
for name in dir(bpy.types):
    if name.startswith(("PLATELIGHT_PT_", "PLATELIGHT_MT_")):
        needed.add(getattr(bpy.types, name).bl_label)
    if name.startswith("PLATELIGHT_MT_"):
        needed.add(getattr(bpy.types, name).__doc__)


def constants(tree: ast.AST) -> list[str]:
    """Texts in a syntax tree that are no docstrings and are not compared with."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if getattr(node.func, "attr", "") == "startswith" or getattr(node.func, "id", "") == "job_status":
            documentation.update(id(each) for argument in node.args for each in ast.walk(argument))
    found = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation
    ]
    return [node.value for node in found if isinstance(node.value, str)]


for path in (ROOT / "ui").glob("*.py"):
    needed.update(text for text in constants(ast.parse(path.read_text("utf-8"))) if WORDS.match(text))
for path in (ROOT / "operators").glob("*.py"):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refuse":
            needed.update(constants(node.args[1]))
needed.update({"", "Platelight"})
german = languages.messages("de")
fields = re.compile(r"\{[^}]*\}")
out = {
    "needed": len(needed),
    "missing": sorted(needed - set(german) - {"", "Platelight"}),
    "unused": sorted(set(german) - needed),
    "empty": [text for text, said in german.items() if not said.strip()],
    "fields": [
        text for text, said in german.items() if sorted(fields.findall(text)) != sorted(fields.findall(said))
    ],
    "operators named": [
        languages.translate("{count} more: narrow the filter", count=3),
        languages.tip("Refine first"),
    ],
    "devices": len(installer.devices()),
}
blender_addon.unregister()
blender_addon.register()
blender_addon.unregister()
kit.result(out)
