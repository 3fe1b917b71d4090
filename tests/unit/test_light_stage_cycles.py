"""The light stage in Cycles: sums equal direct renders, maps are true, a killed run goes on."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from platelight.training.light_stage_lights import fibonacci, texel_directions
from platelight.training.light_stage_reader import StageReader, as_subject
from platelight.training.light_stage_store import shard_name, unpack

pytestmark = [pytest.mark.slow, pytest.mark.blender, pytest.mark.timeout(1500)]
SPEC = importlib.util.find_spec("bpy")
if SPEC is None or SPEC.origin is None:
    pytest.skip("no bpy", allow_module_level=True)
HDRIS = ("forest", "sunset")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stage")
    assert SPEC is not None
    assert SPEC.origin is not None
    lights = sorted(Path(SPEC.origin).parent.glob("*/datafiles/studiolights/world"))[0]
    script = Path(__file__).with_name("stage_photographs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(out), *(str(lights / f"{name}.exr") for name in HDRIS)],
        capture_output=True, text=True, timeout=1400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def blocks(image: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Means over size x size pixels (H/size, W/size, 3)."""
    h, w, c = image.shape
    return image.reshape(h // size, size, w // size, size, c).mean((1, 3))


def error(image: npt.NDArray[np.float32], direct: npt.NDArray[np.float32], size: int) -> float:
    """Mean absolute difference of blocks over the mean radiance."""
    return float(np.abs(blocks(image, size) - blocks(direct, size)).mean() / direct.mean())


def test_the_sum_over_64_lamps_is_the_direct_render_of_the_sky_that_they_hold(photographs: Path) -> None:
    """With an environment constant on each cell nothing but noise may differ: transport, units, directions.

    The noise of both path-traced pictures has zero mean and is no error of the sum: blocks of 4 x 4 pixels leave a
    quarter of it.
    """
    shard = unpack((photographs / "stage-64.st.zst").read_bytes(), "stage")
    env = np.load(photographs / "held-env.npy").reshape(-1, 3)
    owner = np.argmax(texel_directions(128) @ fibonacci(64).T, 1)
    weights = np.stack(
        [np.bincount(owner, env[:, c], 64) / np.bincount(owner, minlength=64) for c in range(3)], 1
    )
    summed = np.einsum("lhwc,lc->hwc", shard.olat, weights).astype(np.float32)
    direct = np.load(photographs / "held.npy")
    print(f"held: {error(summed, direct, 4):.4f}, all light {summed.mean() / direct.mean() - 1:+.4f}")
    assert error(summed, direct, 4) < 0.03
    assert abs(summed.mean() / direct.mean() - 1) < 0.01


@pytest.mark.parametrize("name", HDRIS)
def test_the_sum_over_256_lamps_is_the_direct_render_under_an_hdri(photographs: Path, name: str) -> None:
    """Mean error at most 3 %, for captured light with its lamps, through the reader; noise as above, 8 x 8 pixels.

    What the cells of sky smear (the edges of cast shadows, mirror images of lamps) stays in.
    """
    subject = as_subject(unpack((photographs / "stage-256.st.zst").read_bytes(), "stage"))
    env = torch.from_numpy(np.load(photographs / f"{name}-env.npy")).permute(2, 0, 1)[None]
    direct = np.load(photographs / f"{name}.npy")

    def summed(light: torch.Tensor) -> npt.NDArray[np.float32]:
        return np.asarray(subject.relight(light)[0].permute(1, 2, 0).numpy(), np.float32)

    print(f"{name}: {error(summed(env), direct, 8):.4f}, a pixel {error(summed(env), direct, 1):.4f}")
    assert error(summed(env), direct, 8) < 0.03
    for wrong in (
        env.flip(-1),
        env.roll(32, -1),
    ):  # the test can fail: the same light mirrored or turned is far off
        assert error(summed(wrong), direct, 8) > 0.06


def test_maps_are_true(photographs: Path) -> None:
    shard = unpack((photographs / "stage-256.st.zst").read_bytes(), "stage")
    maps = shard.maps
    solid = maps["alpha"][..., 0] > 0.99
    assert 0.05 < solid.mean() < 0.95
    assert np.abs(np.linalg.norm(maps["normal"][solid], axis=-1) - 1).max() < 0.01
    view = as_subject(shard).view.permute(1, 2, 0).numpy()
    assert ((maps["normal"] * view).sum(-1)[solid] > -0.05).mean() > 0.99, "normals face the camera"
    assert (maps["roughness"][solid] > 0.02).all()
    assert (maps["roughness"][solid] <= 1.01).all()
    assert (maps["f0"][solid] > 0.01).all()
    depth = maps["depth"][..., 0]
    assert (depth[solid] > 0.5).all()
    assert (maps["alpha"][0] == 0).all() or depth[maps["alpha"][..., 0] == 0].max() == 0
    # Depth and normal tell of one surface: points from depth, differenced, give normals near the stored ones.
    points = -view / np.maximum(view[..., 2:], 1e-6) * depth[..., None]
    across, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    inner = solid.copy()
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            inner &= np.roll(solid, step, axis)
    rebuilt = np.cross(across, -down)
    rebuilt /= np.maximum(np.linalg.norm(rebuilt, axis=-1, keepdims=True), 1e-9)
    assert np.median(np.degrees(np.arccos(np.clip((rebuilt * maps["normal"]).sum(-1)[inner], -1, 1)))) < 12


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "set"
    command = [
        sys.executable, "-m", "platelight.cli", "train", "light-stage", "--out", str(out), "--subjects", "2",
        "--size", "32", "--samples", "2", "--lamps", "12",
    ]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not (out / shard_name(0)).exists() and time.monotonic() < deadline:
        assert running.poll() in (None, 0), "the command failed"
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = (out / shard_name(0)).stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (out / shard_name(0)).stat().st_mtime_ns == before
    reader = StageReader(str(out))
    assert reader.names == [shard_name(0), shard_name(1)] == reader.store.index()
    assert reader.subject(1).olat.shape == (12, 3, 32, 32)
    assert float(reader.subject(1).olat.float().mean()) > 0
