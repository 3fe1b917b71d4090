"""Bands and halves give what the whole in floats gives, and bounded memory is held."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from platelight import images
from platelight.pipeline import matting, planes, room, service, subject
from platelight.pipeline.resample import enlarged, resize
from platelight.pipeline.room import Large, Room
from platelight.protocol.errors import InputError
from platelight.protocol.lamps import Lamp
from platelight.protocol.requests import Decompose, Refine, Relight

SMALL = 96
CPU = torch.device("cpu")


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth colors with some noise."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.1, 0.8, (6, 8, channels)).astype(np.float32)
    fine = rng.uniform(-0.05, 0.05, (height, width, channels)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (smooth.reshape(height, width, channels) + fine).clip(0.01)


@pytest.mark.parametrize("size", [(31, 47), (100, 151), (200, 302), (20, 302), (100, 30)])
@pytest.mark.parametrize("rows", [1, 7, 33, 100])
def test_a_picture_in_bands_is_resized_as_the_whole(size: tuple[int, int], rows: int) -> None:
    whole = torch.from_numpy(picture(100, 151)).permute(2, 0, 1)[None]
    bands = [(a, min(a + rows, 100)) for a in range(0, 100, rows)]
    large = Large(lambda a, b: whole[..., a:b, :], tuple(whole.shape), bands)
    if size[0] > 100:  # networks never see more than the plate; only its own size is asked for
        size = (100, 151)
    torch.testing.assert_close(large.resized(size), resize(whole, size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(97, 131), (40, 53), (41, 53), (40, 131), (200, 53)])
def test_rows_of_an_enlarged_picture(size: tuple[int, int]) -> None:
    small = torch.from_numpy(picture(40, 53)).permute(2, 0, 1)[None]
    whole = resize(small, size)
    for top, bottom in ((0, size[0]), (0, 1), (13, 29), (size[0] - 5, size[0])):
        rows = enlarged(small, size, top, bottom)
        torch.testing.assert_close(rows, whole[..., top:bottom, :], rtol=0, atol=1e-5)


def test_rows_of_planes_are_as_opencv_makes_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = picture(40, 53, 5)
    whole = np.dstack([cv2.resize(plane[..., i], (131, 97)) for i in range(5)])
    np.testing.assert_allclose(planes.enlarged(plane, (97, 131), 13, 61), whole[13:61], atol=1e-5)
    np.testing.assert_allclose(
        planes.enlarged(plane[..., 0].astype(np.float64), (97, 131), 13, 61), whole[13:61, :, 0], atol=1e-5
    )
    monkeypatch.setattr(room, "BAND", 53 * 3)
    averages = cv2.resize(plane[..., :3], (17, 13), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(matting._resize(plane[..., :3], (13, 17)), averages, atol=1e-5)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def ball(height: int = 150, width: int = 230) -> tuple[np.ndarray, np.ndarray]:
    """Plate and soft matte of a ball that is lit from the side, before a wall."""
    y, x = np.mgrid[0:height, 0:width]
    x, y = (x + 0.5 - width / 2) / 60, (height / 2 - y - 0.5) / 60
    z = np.sqrt((1 - x * x - y * y).clip(0))
    shade = (0.6 * x + 0.3 * y + 0.7 * z).clip(0.05)[..., None] * np.array([0.6, 0.45, 0.35])
    matte = ((1.0 - np.hypot(x, y)) * 20 + 0.5).clip(0, 1)
    plate = matte[..., None] * shade + (1 - matte[..., None]) * 0.3
    return plate.astype(np.float32), matte.astype(np.float32)


def everything(plate: np.ndarray, matte: np.ndarray, mode: str) -> dict[str, np.ndarray]:
    """All maps, all passes, and results over each backdrop."""
    silent = {"working_size": SMALL}
    given = {"plate": plate, **({"matte": matte} if mode == "given" else {})}
    maps = service.run_job(Decompose(matte=mode, **silent), given).planes  # type: ignore[arg-type]
    found = dict(maps)
    light = picture(16, 32) * np.linspace(0.2, 6.0, 32, dtype=np.float32)[None, :, None]
    scene = {**maps, "plate": plate, "light": light, "backdrop": plate[::-1]}
    for backdrop in ("none", "plate", "light", "given"):
        relit = service.run_job(
            Relight(backdrop=backdrop, rotation=40.0, exposure=0.5, **silent), dict(scene)
        )  # type: ignore[arg-type]
        found |= {f"{backdrop} {name}": image for name, image in relit.planes.items()}
    passes = {name: found[f"none {name}"] for name in ("diffuse", "specular")}
    finished = service.run_job(Refine(**silent), {**scene, **passes}).planes  # type: ignore[arg-type]
    return {**found, "finished": finished["relit"]}


@pytest.mark.parametrize("mode", ["given", "full", "auto"])
def test_bands_and_halves_give_what_the_whole_gives(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plate, matte = ball()
    monkeypatch.setattr(room, "BAND", 1 << 30)
    whole = everything(plate, matte, mode)
    assert whole["normal"].dtype == np.float32
    monkeypatch.setattr(room, "SMALL_BAND", 230 * 11)
    monkeypatch.setattr(room, "BASE", 0)
    monkeypatch.setattr(room, "BAND", 230 * 7)
    monkeypatch.setattr(service, "_room", Room(int(room.HALVES * plate.shape[0] * plate.shape[1] * 1.01)))
    assert len(service._room.bands(*plate.shape[:2], CPU)) > 10
    small = everything(plate, matte, mode)
    assert small["normal"].dtype == np.float16
    assert small["depth"].dtype == np.float32
    inside = whole["matte"] > 0.5
    assert angle(whole["normal"], small["normal"])[inside].mean() < 0.5
    for name, image in whole.items():
        off = np.abs(image - small[name].astype(np.float32)).mean() / np.abs(image).mean()
        assert off < 0.005, f"{name}: {off:.2%}"


def test_passes_are_black_where_the_matte_is_and_as_shaded_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    plate, matte = ball()
    maps = service.run_job(
        Decompose(matte="given", working_size=SMALL), {"plate": plate, "matte": matte}
    ).planes
    scene = {**maps, "light": picture(16, 32)}
    picked = service.run_job(Relight(pbr_only=True), dict(scene)).planes
    monkeypatch.setattr(subject, "MOST", -1.0)  # all pixels are shaded
    service._kept.clear()
    whole = service.run_job(Relight(pbr_only=True), dict(scene)).planes
    assert 0 < (maps["matte"] > 0).mean() < 0.8
    for name in ("diffuse", "specular", "pbr"):
        assert (picked[name][maps["matte"] == 0] == 0).all()
        assert picked[name][maps["matte"] > 0].min() > 0
    for name, image in whole.items():
        np.testing.assert_allclose(picked[name], image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("request_", [Relight(pbr_only=True), Refine(working_size=SMALL)])
def test_what_comes_in_as_halves_goes_out_as_it_was_asked_for(request_: Relight | Refine) -> None:
    plate, matte = ball(60, 80)
    maps = service.run_job(
        Decompose(matte="given", working_size=SMALL), {"plate": plate, "matte": matte}
    ).planes
    passes = {"diffuse": maps["albedo"] * 0.5, "specular": np.full_like(maps["albedo"], 0.02)}
    scene = {**maps, **passes, "light": picture(16, 32)}
    halves = {name: plane.astype(np.float16) for name, plane in scene.items()}
    rounded = {name: plane.astype(np.float32) for name, plane in halves.items()}
    floats = service.run_job(request_, scene).planes
    mixed = service.run_job(request_, halves).planes
    for name, image in service.run_job(request_, rounded).planes.items():
        assert mixed[name].dtype == floats[name].dtype == np.float32
        np.testing.assert_array_equal(mixed[name], image, err_msg=name)  # nothing else is lost on the way
        assert np.abs(image - floats[name]).mean() < 0.001 * floats[name].mean(), name
    for name, image in service.run_job(msgspec.structs.replace(request_, halves=True), halves).planes.items():
        assert image.dtype == np.float16
        assert np.abs(image - floats[name]).mean() < 0.005 * floats[name].mean(), name


def test_a_decomposition_in_halves_is_the_one_in_floats_rounded() -> None:
    plate, matte = ball(60, 80)
    given = {"plate": plate, "matte": matte}
    wanted = Decompose(matte="given", working_size=SMALL)
    floats = service.run_job(wanted, given).planes
    for name, plane in service.run_job(msgspec.structs.replace(wanted, halves=True), given).planes.items():
        kind = np.float32 if name in ("depth", "light") else np.float16
        assert plane.dtype == kind, name
        np.testing.assert_array_equal(plane, floats[name].astype(kind), err_msg=name)


def test_what_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Room(2 * room.GIB).half(8640, 16384)
    assert str(caught.value) == (
        "A plate of 16384×8640 needs 12.0 GiB, and 2.0 GiB are allowed. "
        "Allow more with --memory, or give a smaller plate."
    )
    assert not Room(32 * room.GIB).half(8640, 16384)
    assert Room(12 * room.GIB).half(8640, 16384)
    assert Room(lean=True).half(10, 10)


def test_what_is_not_done_in_bands_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    plate, matte = ball()
    planes = {
        **dict.fromkeys(("albedo", "normal", "foreground"), plate),
        "matte": matte,
        "light": picture(16, 32),
    }
    planes |= dict.fromkeys(("roughness", "reflectivity", "cavity", "depth"), matte + 0.1)
    pixels = matte.size
    monkeypatch.setattr(room, "BASE", 0)
    monkeypatch.setattr(service, "_room", Room(room.FLOATS * pixels))
    service.run_job(Relight(pbr_only=True), dict(planes))
    lamp = Lamp(kind="point", power=10.0)
    for shaded in (Relight(pbr_only=True, shadows="on"), Relight(pbr_only=True, lamps=(lamp,))):
        with pytest.raises(InputError, match="or do without shadows, lamps and steadying"):
            service.run_job(shaded, dict(planes))
    service.limit_memory((room.HALVES + room.beyond(True)) * pixels, room.beyond(True))
    assert (
        service.run_job(Relight(pbr_only=True, shadows="on"), dict(planes)).planes["pbr"].dtype == np.float16
    )
    # A command that will need it later refuses when it takes the plate apart.
    service.limit_memory(room.FLOATS * pixels, room.beyond(False, steadied=True))
    with pytest.raises(InputError, match="are allowed"):
        service.run_job(Decompose(matte="given", working_size=SMALL), {"plate": plate, "matte": matte})


def test_out_of_memory_makes_everything_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_room", Room())
    monkeypatch.setattr(service, "_networks", None)
    assert service.make_room()
    assert service._room.half(8, 8)
    assert len(service._room.bands(2000, 2000, CPU)) > len(Room().bands(2000, 2000, CPU))


BETWEEN = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the platform does not tell a process's peak memory")
def test_bounded_memory_is_held(tmp_path: Path) -> None:
    """The whole command, reading and writing too, at 4.2 megapixels."""
    plate, matte = ball()
    size = (2400, 1760)
    images.write_light(tmp_path / "plate.exr", cv2.resize(plate, size), {})
    images.write_png_values(tmp_path / "matte.png", cv2.resize(matte, size))
    images.write_light(tmp_path / "sky.exr", picture(16, 32), {})

    def peak(folder: str, *more: str) -> float:
        command = [
            sys.executable,
            "-m",
            "platelight.cli",
            "relight",
            "plate.exr",
            "--light",
            "sky.exr",
            "-o",
            folder,
        ]
        command += ["--matte", "matte.png", "--working-size", "96", "--threads", "1", *more]
        # A child's peak begins with that of the process it was forked from, so a small one stands between.
        told = subprocess.run(
            [sys.executable, "-c", BETWEEN, *command], cwd=tmp_path, stdout=subprocess.PIPE, check=True
        )
        return int(told.stdout.split()[-1]) / (2**20 if sys.platform != "darwin" else 2**30)

    bounded, free = peak("a", "--memory", "1.15"), peak("b")
    assert bounded < 1.15
    assert bounded < free
    one, other = (images.read_plate(tmp_path / folder / "plate.relit.exr").pixels for folder in "ab")
    assert np.abs(one - other).mean() < 0.005 * other.mean()
