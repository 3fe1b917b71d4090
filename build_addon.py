"""Build the Blender extension: stage, vendor, fetch wheels, validate, zip. Standard library only.

    python build_addon.py [--platforms this|all] [--python cp311 --python cp313] [--no-wheels] [--no-backend] [-o dist]

The source tree is never changed. A copy of ``blender_addon/`` is staged; the torch-free parts of
``platelight`` are copied into its ``_vendor/`` with their imports made relative (own code must not travel as
a wheel: Blender shares wheels between extensions and keeps one version of each); wheels of pyzmq and msgspec
for each Python that a supported Blender has are downloaded and named in the staged manifest; the backend's own wheel
is built for Install Backend; Blender's own ``blender_ext.py`` validates and zips.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ADDON = ROOT / "blender_addon"
PACKAGE = ROOT / "backend" / "platelight"
# What the extension may carry: nothing here imports torch. Packages of which single modules are taken get an empty __init__.
VENDORED = (
    "__init__.py", "protocol", "client", "shading/principled.py", "images/sequence.py", "images/atomic.py",
    "pipeline/neutral.py",
    "commands/options.py", "commands/lamps.py", "commands/lights.py", "commands/tracks.py", "commands/records.py",
)  # fmt: skip
# One version for every Python tag: Blender 5.1 and later refuse a mixture, and 26.4.0 has cp311 and cp313.
WHEELS = ("pyzmq==26.4.0", "msgspec==0.22.0")
PYTHONS = ("cp311", "cp313")  # Blender 4.2 to 5.0, and 5.1 on
# Blender's platform name: the wheel platforms that pip may pick for it.
PLATFORMS: dict[str, tuple[str, ...]] = {
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-x64": (
        "macosx_10_15_x86_64",
        "macosx_10_15_universal2",
        "macosx_10_9_x86_64",
        "macosx_10_9_universal2",
    ),
    "macos-arm64": ("macosx_11_0_arm64", "macosx_10_15_universal2", "macosx_10_9_universal2"),
}


class BuildError(Exception):
    """The build cannot go on; the text says why."""


def this_platform() -> str:
    """Blender's name of the platform that runs this."""
    system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64"}.get(
        platform.machine(), platform.machine()
    )
    return f"{system}-{machine}"


def package_version() -> str:
    """The version in ``platelight/__init__.py``, which the manifest takes."""
    found = re.search(r'^__version__ = "([^"]+)"', (PACKAGE / "__init__.py").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise BuildError(f"{PACKAGE / '__init__.py'} has no __version__.")
    return found.group(1)


def relative_imports(text: str, depth: int, name: str) -> str:
    """Rewrite ``from platelight...`` to relative imports for a module ``depth`` folders below the package.

    Raises:
        BuildError: the module imports platelight in a way that cannot be rewritten.
    """
    dots = "." * (depth + 1)
    text = re.sub(r"^(\s*from )platelight\.([\w.]+ import )", rf"\g<1>{dots}\g<2>", text, flags=re.MULTILINE)
    text = re.sub(r"^(\s*from )platelight( import )", rf"\g<1>{dots}\g<2>", text, flags=re.MULTILINE)
    if left := re.search(r"^\s*(import platelight|from platelight).*", text, re.MULTILINE):
        raise BuildError(f"{name} has an import that cannot be vendored: {left.group(0).strip()}")
    return text


def stage(target: Path) -> None:
    """Copy the add-on and the vendored code into ``target``."""
    shutil.copytree(ADDON, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copytree(
        ROOT / "shaders" / "glsl", target / "shaders" / "glsl", ignore=shutil.ignore_patterns("*.py")
    )
    shutil.copy(ROOT / "LICENSE", target / "LICENSE") if (ROOT / "LICENSE").is_file() else None
    vendor = target / "_vendor"
    package = vendor / "platelight"
    package.mkdir(parents=True)
    (vendor / "__init__.py").write_text('"""Copied by build_addon.py; edit the originals."""\n', "utf-8")
    for entry in VENDORED:
        source = PACKAGE / entry
        if not source.exists():
            raise BuildError(f"{source} is missing.")
        for module in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            inner = module.relative_to(PACKAGE)
            copy = package / inner
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(
                relative_imports(module.read_text("utf-8"), len(inner.parts) - 1, str(inner)), "utf-8"
            )
    for folder in {Path(entry).parent for entry in VENDORED if "/" in entry}:
        inside = package / folder / "__init__.py"
        inside.write_text(f'"""The torch-free part of platelight.{folder}."""\n', "utf-8")
    wire = target / "wire.py"
    text = wire.read_text("utf-8")
    wire.write_text(
        re.sub(r"^(\s*from )platelight\b", r"\1._vendor.platelight", text, flags=re.MULTILINE), "utf-8"
    )


def fetch_wheels(target: Path, platforms: list[str], pythons: list[str]) -> list[str]:
    """Download the wheels for every platform and Python into ``target`` and return their names."""
    target.mkdir(parents=True, exist_ok=True)
    for name in platforms:
        for tag in pythons:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += ["--dest", str(target), "--implementation", "cp", "--abi", tag]
            command += ["--python-version", f"{tag[2]}.{tag[3:]}"]
            for wheel_platform in PLATFORMS[name]:
                command += ["--platform", wheel_platform]
            done = subprocess.run([*command, *WHEELS], capture_output=True, text=True, check=False)
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip said nothing"
                raise BuildError(f"No wheels of {', '.join(WHEELS)} for {name} {tag}: {reason}")
    return sorted(path.name for path in target.glob("*.whl"))


def source_digest() -> str:
    """A hash of everything that the backend's wheel is made of."""
    found = hashlib.sha256()
    for path in sorted([*PACKAGE.rglob("*"), ROOT / "pyproject.toml", ROOT / "README.md"]):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def backend_wheel(target: Path, cache: Path | None) -> None:
    """Build the wheel of the backend into ``target``: what the extension installs into an environment of its own."""
    target.mkdir(parents=True)
    kept = cache / f"backend-{source_digest()}" if cache else None
    if kept is not None and kept.is_dir():
        shutil.copytree(kept, target, dirs_exist_ok=True)
        return
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(target),
        str(ROOT),
    ]
    if importlib.util.find_spec("hatchling") is not None:
        command.insert(-1, "--no-build-isolation")  # nothing has to be downloaded
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"The backend's wheel could not be built: {done.stderr.strip()[-400:]}")
    if kept is not None:
        partial = kept.with_name(f".{kept.name}.{os.getpid()}")
        shutil.copytree(target, partial)
        os.replace(partial, kept)


def fill_manifest(path: Path, wheels: list[str], platforms: list[str]) -> None:
    """Put version, platforms and wheels, if any, into the staged manifest."""
    text = path.read_text("utf-8")
    text, count = re.subn(r'^version = ".*"$', f'version = "{package_version()}"', text, flags=re.MULTILINE)
    if count != 1:
        raise BuildError(f"{path} must have exactly one version line.")
    listing = "".join(f'  "./wheels/{name}",\n' for name in wheels)
    carried = f"wheels = [\n{listing}]\n" if wheels else ""
    names = ", ".join(f'"{name}"' for name in platforms)
    head, table, rest = text.partition("[permissions]")
    path.write_text(f"{head}platforms = [{names}]\n{carried}\n{table}{rest}", "utf-8")


def blender_ext() -> Path:
    """Blender's extension tool, from the bpy wheel of this Python or the Blender on the path."""
    spec = importlib.util.find_spec("bpy")
    places = [Path(spec.origin).parent] if spec is not None and spec.origin else []
    if blender := os.environ.get("BLENDER") or shutil.which("blender"):
        beside = Path(blender).resolve().parent
        # Beside the program as blender.org packs it, in macOS' bundle, and where Linux distributions have it.
        places += [beside, beside.parent / "Resources", beside.parent / "share" / "blender"]
    for place in places:
        for version in ("*/", ""):
            for found in sorted(place.glob(f"{version}scripts/addons_core/bl_pkg/cli/blender_ext.py")):
                return found
    raise BuildError("Neither the bpy wheel nor a Blender is here: pip install bpy, or set BLENDER.")


def run_tool(*arguments: str) -> None:
    """Run Blender's extension tool and pass its complaint on."""
    done = subprocess.run(
        [sys.executable, str(blender_ext()), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"blender_ext.py {arguments[0]} failed: {(done.stdout + done.stderr).strip()}")


def digest(path: Path) -> str:
    """sha256 of a file, for the release notes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build(
    out: Path, platforms: list[str], pythons: list[str], cache: Path | None = None, *, backend: bool = True
) -> list[Path]:
    """Build one zip a platform and return their paths; with wheels for ``pythons``, with the wheel of the backend or without.

    Raises:
        BuildError: something is missing or not valid.
    """
    out.mkdir(parents=True, exist_ok=True)
    built = []
    for name in platforms:
        with tempfile.TemporaryDirectory(prefix="platelight-build-") as folder:
            staged = Path(folder) / "platelight"
            stage(staged)
            wheels = staged / "wheels"
            kept = cache / f"{name}-{'-'.join(pythons)}-{'-'.join(WHEELS)}" if cache else None
            if not pythons:
                names = []  # the Python of that Blender has them
            elif kept is not None and kept.is_dir():
                shutil.copytree(kept, wheels)
                names = sorted(path.name for path in wheels.glob("*.whl"))
            else:
                names = fetch_wheels(wheels, [name], pythons)
                if kept is not None:
                    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
                    shutil.copytree(wheels, partial)
                    os.replace(partial, kept)
            if backend:
                backend_wheel(staged / "backend_wheel", cache)
            fill_manifest(staged / "blender_manifest.toml", names, [name])
            run_tool("validate", str(staged))
            target = out / f"platelight-{package_version()}-{name}.zip"
            scratch = out / f".{target.name}.{os.getpid()}.zip"
            run_tool("build", "--source-dir", str(staged), "--output-filepath", str(scratch))
            run_tool("validate", str(scratch))
            os.replace(scratch, target)
            built.append(target)
    return built


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the Blender extension of Platelight.")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist", help="folder for the zips")
    parser.add_argument("--platforms", default="this", help="this, all, or names separated by commas")
    parser.add_argument("--python", action="append", help="Python tag, cp311 or cp313; both by default")
    parser.add_argument(
        "--no-wheels",
        action="store_true",
        help="for a Blender on the system's Python, as Linux distributions build it, that has pyzmq and msgspec",
    )
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "build" / "wheels", help="folder that keeps wheels"
    )
    parser.add_argument(
        "--no-backend",
        action="store_true",
        help="leave the backend's wheel out: 25 MB less, no Install Backend",
    )
    args = parser.parse_args()
    chosen = {"this": [this_platform()], "all": list(PLATFORMS)}.get(
        args.platforms, args.platforms.split(",")
    )
    if unknown := set(chosen) - set(PLATFORMS):
        print(
            f"Unknown platform: {', '.join(sorted(unknown))}. Known: {', '.join(PLATFORMS)}.", file=sys.stderr
        )
        return 2
    pythons = [] if args.no_wheels else args.python or list(PYTHONS)
    try:
        for path in build(args.out, chosen, pythons, args.cache, backend=not args.no_backend):
            print(f"{path}  {path.stat().st_size} bytes  sha256 {digest(path)}")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
