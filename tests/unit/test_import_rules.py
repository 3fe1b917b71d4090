"""Who may import whom: each module is imported in a process of its own where the forbidden ones are blocked.

Modules are found by listing the packages, so what is added later is covered from its first day.
"""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import platelight
import pytest

ROOT = Path(platelight.__file__).parent
HEAVY = ("torch", "scipy", "cv2", "OpenEXR", "OpenImageIO", "PyOpenColorIO", "skimage", "pymatting")
SERVER_SIDE = ("platelight.server", "platelight.pipeline", "platelight.models", "platelight.shading")
NOT_IN_BLENDER = (*HEAVY, *SERVER_SIDE, "platelight.images", "platelight.training", "platformdirs",
                  "requests", "rich", "safetensors")  # fmt: skip

RULES: dict[str, tuple[str, ...]] = {
    "protocol": (*NOT_IN_BLENDER, "zmq", "platelight.client", "bpy"),
    "client": (*NOT_IN_BLENDER, "bpy"),
    "server": (
        *HEAVY,
        "platelight.pipeline",
        "platelight.models",
        "platelight.shading",
        "platelight.images",
        "bpy",
    ),
    "images": ("zmq", "bpy", "platelight.client", "platelight.server", "platelight.pipeline"),
    "shading": ("zmq", "bpy", "platelight.client", "platelight.server", "platelight.pipeline"),
    "models": ("zmq", "bpy", "platelight.client", "platelight.server", "platelight.pipeline"),
    "pipeline": ("zmq", "bpy", "platelight.client", "platelight.server"),
}
RULES["server"] = tuple(name for name in RULES["server"] if name != "platelight.server")


def modules_of(package: str) -> list[str]:
    """Names of a package and all modules in it, the ones that run on import left out."""
    found = pkgutil.walk_packages([str(ROOT / package)], f"platelight.{package}.")
    return [f"platelight.{package}", *(one.name for one in found if not one.name.endswith("__main__"))]


def import_blocked(modules: list[str], blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in blocked)]
    lines += [f"import {name}" for name in modules]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("package", RULES)
def test_packages_do_without_what_they_may_not_import(package: str) -> None:
    done = import_blocked(modules_of(package), RULES[package])
    assert done.returncode == 0, done.stderr


def test_the_rules_bite() -> None:
    """A process in which zmq is blocked cannot import the client: else the tests above would prove nothing."""
    done = import_blocked(["platelight.client"], ("zmq",))
    assert done.returncode != 0
    assert "zmq" in done.stderr


def test_platelight_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import platelight; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    roots = {name.split(".")[0] for name in done.stdout.split()}
    assert roots - set(sys.stdlib_module_names) == {"platelight"}


def test_client_and_protocol_need_numpy_msgspec_and_zmq_only() -> None:
    """What the add-on vendors must run in Blender's Python, which has numpy and little else."""
    modules = modules_of("protocol") + modules_of("client")
    code = f"import sys, {', '.join(modules)}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    baseline = subprocess.run(
        [sys.executable, "-c", "import sys, numpy, zmq, zmq.utils.monitor, msgspec; print(*sorted(sys.modules))"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    extra = {name.split(".")[0] for name in done.stdout.split()}
    extra -= {name.split(".")[0] for name in baseline.stdout.split()} | set(sys.stdlib_module_names)
    assert extra <= {"platelight"}


def test_vendored_packages_import_each_other_by_full_name() -> None:
    """The add-on rewrites ``platelight.`` to the place where it carries the packages."""
    for package in ("protocol", "client"):
        for path in (ROOT / package).glob("*.py"):
            assert not re.search(r"^\s*from \.", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_no_pickle_anywhere() -> None:
    forbidden = re.compile(
        r"^\s*(import|from)\s+(pickle|dill|cloudpickle|shelve|marshal)\b|torch\.load\(", re.M
    )
    for path in ROOT.rglob("*.py"):
        match = forbidden.search(path.read_text(encoding="utf-8"))
        assert match is None, f"{path}: {match and match[0]}"


def test_no_archive_is_unpacked_anywhere() -> None:
    """Neither the package nor the extension follows names in an archive, so none can lead out of a folder (zip-slip)."""
    forbidden = re.compile(
        r"^\s*(import|from)\s+(zipfile|tarfile|py7zr|rarfile|libarchive)\b|unpack_archive|\bextractall\(",
        re.M,
    )
    folders = [ROOT, ROOT.parents[1] / "blender_addon"]
    found = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(found) > 200
    for path in found:
        match = forbidden.search(path.read_text(encoding="utf-8"))
        assert match is None, f"{path}: {match and match[0]}"
