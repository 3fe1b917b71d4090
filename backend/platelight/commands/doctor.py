"""``platelight doctor``: what is here, what is missing, and whether it works."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from platelight import __version__
from platelight.protocol.errors import PlatelightError
from platelight.resources import prefer_systems_libsodium

PACKAGES = {
    "numpy": "numpy", "msgspec": "msgspec", "pyzmq": "zmq", "safetensors": "safetensors", "torch": "torch",
    "scipy": "scipy", "OpenEXR": "OpenEXR", "openimageio": "OpenImageIO", "opencolorio": "PyOpenColorIO",
    "opencv-python-headless": "cv2", "pymatting": "pymatting", "ai-edge-litert": "ai_edge_litert.interpreter",
    "scikit-image": "skimage", "rich": "rich", "av": "av", "platformdirs": "platformdirs",
    "prometheus_client": "prometheus_client",
}  # fmt: skip
"""Distribution and the module to import."""

OLDEST_EXR = (3, 4, 14)


class State(StrEnum):
    """How a finding counts: only ``missing`` makes the command fail."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    state: State
    text: str


def run(parsed: argparse.Namespace) -> int:
    """Run the command: 0 when all that is needed is here, else 1."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not parsed.json:
            print(f"{finding.state:<8} {finding.name:<24} {finding.text}", flush=True)
    if parsed.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    return 1 if any(finding.state is State.MISSING for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Look at everything, cheapest first."""
    yield Finding(
        "platelight", State.OK, f"{__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    for distribution, module in PACKAGES.items():
        yield _package(distribution, module)
    checks: dict[str, Callable[[], Finding]] = {
        "device": _device,
        "inference": _inference,
        "engine": _engine,
        "matting network": _matting,
        "Blender": _blender,
        "config folder": _config,
        "encryption": _encryption,
        "server": _server,
    }
    yield from _weights()
    for name, check in checks.items():
        try:
            yield check()
        except ImportError as error:
            yield Finding(name, State.MISSING, f"cannot be checked: {error}")


def _package(distribution: str, module: str) -> Finding:
    try:
        importlib.import_module(module)
        version = importlib.metadata.version(distribution)
    except ImportError as error:  # PackageNotFoundError is one
        return Finding(
            distribution, State.MISSING, f"not installed ({error}); run: pip install {distribution}"
        )
    if distribution == "OpenEXR" and tuple(int(part) for part in version.split(".")[:3]) < OLDEST_EXR:
        return Finding(distribution, State.MISSING, f"{version} has known holes; run: pip install -U OpenEXR")
    return Finding(distribution, State.OK, version)


def _device() -> Finding:
    import torch

    threads = f"{os.cpu_count()} CPU cores, torch uses {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        return Finding("device", State.OK, f"cuda: {torch.cuda.get_device_name(0)}; {threads}")
    if torch.backends.mps.is_available():
        return Finding("device", State.OK, f"mps; {threads}")
    return Finding("device", State.OK, f"cpu; {threads}")


def _inference() -> Finding:
    import torch

    from platelight.models.precision import reason

    return Finding("inference", State.OK, reason(torch.device(_kind())))


def _kind() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _engine() -> Finding:
    """Which engine runs the networks here, why, and whether that is right: measured."""
    import torch

    from platelight.models import engine as engines
    from platelight.models import registry

    device = torch.device(_kind())
    engine, why = engines.choose(engines.Engine.AUTO, device)
    tried = engine
    if engine is engines.Engine.TORCH:
        if device.type != "cpu" or not engines.installed():
            return Finding("engine", State.OK, f"torch: {why}")
        tried = engines.Engine.OPENVINO
    plain, other = engines.compared(lambda: registry.load("diffuse", device), tried, device)
    times = f"{1000 * other:.0f} ms a pass of a network by {tried}, {1000 * plain:.0f} by PyTorch as it is"
    if tried is engine and other > plain:
        return Finding(
            "engine", State.NOTE, f"{engine} ({why}), but --networks torch is faster here: {times}"
        )
    if tried is not engine and other < plain:
        times += f"; for servers and long shots, --networks {tried}"
    return Finding("engine", State.OK, f"{engine}: {why}; {times}")


def _weights() -> Iterator[Finding]:
    try:
        from platelight.models.registry import NETWORKS, describe
    except ImportError as error:
        yield Finding("weights", State.MISSING, f"cannot be checked: {error}")
        return
    for name in NETWORKS:
        try:
            file = describe(name)
        except PlatelightError as error:
            yield Finding(f"weights {name}", State.MISSING, str(error))
        else:
            size = file.path.stat().st_size / 1e6
            yield Finding(f"weights {name}", State.OK, f"sha256 {file.sha256[:12]}…, {size:.1f} MB")


def _matting() -> Finding:
    from platelight.pipeline import matting

    try:
        seconds = matting.warm()
    except PlatelightError as error:
        return Finding("matting network", State.MISSING, str(error))
    return Finding("matting network", State.OK, f"sha256 verified; first matte after {seconds:.1f} s")


def _blender() -> Finding:
    found = []
    if importlib.util.find_spec("bpy") is not None:
        found.append(f"bpy {importlib.metadata.version('bpy')}")
    if program := shutil.which("blender"):
        found.append(program)
    if found:
        return Finding("Blender", State.OK, ", ".join(found))
    return Finding("Blender", State.NOTE, "none found; only 'platelight demo' and the extension need it")


def _config() -> Finding:
    from platelight.client.keys import CLIENT_KEY, check_private, config_dir

    folder = config_dir()
    if not folder.exists():
        return Finding("config folder", State.OK, f"{folder} (made at first use)")
    try:
        check_private(folder, "folder", "700")
        if (folder / CLIENT_KEY).exists():
            check_private(folder / CLIENT_KEY, "file", "600")
    except PlatelightError as error:
        return Finding("config folder", State.MISSING, str(error))
    return Finding("config folder", State.OK, f"{folder}, private")


def _encryption() -> Finding:
    version = prefer_systems_libsodium()  # asked for when the command began
    if version is not None:
        return Finding("encryption", State.OK, f"the system's libsodium {version}")
    if not sys.platform.startswith("linux"):
        return Finding("encryption", State.OK, "pyzmq's libsodium")
    return Finding(
        "encryption", State.NOTE,
        "pyzmq's libsodium, a tenth as fast as the system's would be; for servers elsewhere run: apt install libsodium23",
    )  # fmt: skip


def _server() -> Finding:
    from platelight.client import Client
    from platelight.client.keys import read_connection

    try:
        where = read_connection()
        with Client() as client:
            report = client.status(timeout=3.0)
    except PlatelightError as error:
        return Finding("server", State.NOTE, f"{error.sentence} (only --server and the extension need one)")
    jobs = sum(report.jobs.values())
    return Finding(
        "server", State.OK, f"{where.endpoint}, {report.software}, {len(report.workers)} workers, {jobs} jobs"
    )


if __name__ == "__main__":
    sys.exit(run(argparse.Namespace(json=False)))
