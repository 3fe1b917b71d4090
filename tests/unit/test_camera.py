"""A shot's camera out of USD stages, which pxr writes here, and what the light does before it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from platelight.commands import options
from platelight.commands.camera import ShotCamera
from platelight.commands.lighting import Lighting
from platelight.commands.lights import Light
from platelight.images import Frame, write_light
from platelight.protocol.errors import InputError
from platelight.shading.environment import directions, sample, seen_from, solid_angles, turn

pxr = pytest.importorskip("pxr", reason="needs usd-core: pip install 'platelight[usd]'")
from pxr import Gf, Usd, UsdGeom  # noqa: E402


def frame(number: int | None = 1) -> Frame:
    return Frame(Path(f"shot.{number}.exr"), number, "" if number is None else "shot.####.exr")


def stage_at(path: Path, up: str = "Y", name: str = "/cam") -> tuple[Any, Any]:
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, up)
    camera = UsdGeom.Camera.Define(stage, name)
    camera.GetHorizontalApertureAttr().Set(36.0)
    camera.GetFocalLengthAttr().Set(18.0)
    return stage, camera


def parsed(**more: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_relight(parser)
    found = parser.parse_args(["shot.####.exr", "-o", "out"])
    vars(found).update(more)
    return found


@pytest.mark.parametrize("suffix", ["usda", "usdc", "usd"])
def test_a_still_camera(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"shot.{suffix}"
    stage, _ = stage_at(path)
    stage.Save()
    view = ShotCamera.open(str(path)).at(frame(None))
    assert view.fov == pytest.approx(90.0)
    assert view.axes == pytest.approx(np.eye(3))
    assert view.distance is None


def test_a_package(tmp_path: Path) -> None:
    from pxr import UsdUtils

    stage, _ = stage_at(tmp_path / "shot.usdc")
    stage.Save()
    assert UsdUtils.CreateNewUsdzPackage(str(tmp_path / "shot.usdc"), str(tmp_path / "shot.usdz"))
    assert ShotCamera.open(str(tmp_path / "shot.usdz")).at(frame()).fov == pytest.approx(90.0)


def test_up_is_up_in_both_kinds_of_stage(tmp_path: Path) -> None:
    """A camera that looks along +Y of a stage whose Z is up is one that looks along -Z where Y is, turned or tilted alike."""
    found = []
    for up in "YZ":
        stage, camera = stage_at(tmp_path / f"{up}.usda", up)
        matrix = Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(1, 0, 0), -20))
        matrix *= Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(0, 1, 0), 30))
        if up == "Z":
            matrix *= Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(1, 0, 0), 90))
        matrix *= Gf.Matrix4d().SetScale(3.0)  # of the set: no rotation
        UsdGeom.Xformable(camera).AddTransformOp().Set(matrix)
        stage.Save()
        found.append(ShotCamera.open(str(tmp_path / f"{up}.usda")).at(frame()).axes)
    assert found[1] == pytest.approx(found[0], abs=1e-9)
    forward = -found[0][:, 2]  # 30 degrees to the left, 20 down
    c = math.cos(math.radians(20))
    assert forward == pytest.approx(
        [-c * math.sin(math.radians(30)), -math.sin(math.radians(20)), -c * math.cos(math.radians(30))]
    )


def test_keys_rates_and_units(tmp_path: Path) -> None:
    stage, camera = stage_at(tmp_path / "shot.usda", name="/rig/cam")
    stage.SetTimeCodesPerSecond(48)
    stage.SetFramesPerSecond(24)
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    rig = UsdGeom.Xform.Define(stage, "/rig").AddRotateYOp()
    rig.Set(0.0, 2 * 1001)
    rig.Set(60.0, 2 * 1011)
    camera.GetFocalLengthAttr().Set(18.0, 2 * 1001)
    camera.GetFocalLengthAttr().Set(36.0, 2 * 1011)
    camera.GetFStopAttr().Set(2.8)
    camera.GetFocusDistanceAttr().Set(250.0)
    stage.Save()
    shot = ShotCamera.open(str(tmp_path / "shot.usda"))
    for number, angle, focal in ((990, 0, 18), (1001, 0, 18), (1006, 30, 27), (1011, 60, 36), (1020, 60, 36)):
        view = shot.at(frame(number))
        assert math.degrees(math.atan2(view.axes[0, 2], view.axes[2, 2])) == pytest.approx(angle)
        assert view.fov == pytest.approx(2 * math.degrees(math.atan(18 / focal)), rel=1e-5)
    assert view.distance == pytest.approx(2.5)
    assert [fov for _, fov in shot.lens()] == pytest.approx([90.0, 2 * math.degrees(math.atan(0.5))])
    with pytest.raises(InputError, match=r"has no frame number, and .*shot.usda:/rig/cam moves"):
        shot.at(frame(None))


@pytest.mark.parametrize(("right", "up"), [(4.0, 0.0), (0.0, -3.0), (-2.0, 2.5)])
def test_a_shifted_film_looks_where_usd_says(tmp_path: Path, right: float, up: float) -> None:
    """Against the pick rays of USD's own frustum: the middle is exact, the middle row's ends on average, the rest nearly."""
    stage, camera = stage_at(tmp_path / "shot.usda")
    camera.GetFocalLengthAttr().Set(50.0)
    camera.GetVerticalApertureAttr().Set(24.0)
    camera.GetHorizontalApertureOffsetAttr().Set(right)
    camera.GetVerticalApertureOffsetAttr().Set(up)
    UsdGeom.Xformable(camera).AddRotateYOp().Set(30.0)
    stage.Save()
    shot = ShotCamera.of(parsed(camera=str(tmp_path / "shot.usda")), [frame()])
    assert shot is not None
    view = shot.at(frame())
    frustum = camera.GetCamera(1).frustum

    def ray(u: float, v: float) -> np.ndarray:
        return np.array(frustum.ComputePickRay(Gf.Vec2d(u, v)).direction)

    assert -view.axes[:, 2] == pytest.approx(ray(0, 0), abs=1e-6)
    assert view.axes.T @ view.axes == pytest.approx(np.eye(3))
    ends = math.degrees(math.acos(ray(-1, 0) @ ray(1, 0)))
    assert view.fov == pytest.approx(ends, abs=1e-3)
    # The way along a row of the picture is the camera's right, with nothing of its up.
    along = view.axes.T @ (ray(0.01, 0) - ray(-0.01, 0))
    assert along[1] == pytest.approx(0.0, abs=1e-3 * along[0])
    half = math.tan(math.radians(view.fov / 2))
    for u, v in ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, 1)):
        taken = view.axes @ np.array([u * half, v * half * 24 / 36, -1.0])
        assert math.degrees(math.acos(min(1.0, taken @ ray(u, v) / np.linalg.norm(taken)))) < 1.0


def test_a_film_that_is_shifted_far_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage, camera = stage_at(tmp_path / "shot.usda")
    stage.Save()
    line = parsed(camera=str(tmp_path / "shot.usda"))
    ShotCamera.of(line, [frame(1), frame(5)])
    assert not caplog.messages
    camera.GetVerticalApertureOffsetAttr().Set(0.0, 1)
    camera.GetVerticalApertureOffsetAttr().Set(9.0, 5)
    stage.Save()
    shot = ShotCamera.of(line, [frame(1), frame(5)])
    assert len(caplog.messages) == 1
    assert "shot.usda:/cam has its aperture shifted so far that" in caplog.messages[0]
    assert shot is not None
    assert [t for t, _ in shot.lens()] == [1.0, 5.0]  # an offset that is keyed makes maps anew
    assert shot.lens()[0][1] == pytest.approx(90.0)


def test_a_stage_without_a_frame_rate_counts_in_frames(tmp_path: Path) -> None:
    stage, camera = stage_at(tmp_path / "shot.usda")
    stage.SetTimeCodesPerSecond(30)
    camera.GetFocalLengthAttr().Set(18.0, 1)
    camera.GetFocalLengthAttr().Set(36.0, 11)
    stage.Save()
    fov = ShotCamera.open(str(tmp_path / "shot.usda")).at(frame(6)).fov
    assert fov == pytest.approx(2 * math.degrees(math.atan(18 / 27)), rel=1e-5)


def test_complaints_name_the_thing_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "shot.usda"
    stage, camera = stage_at(path)
    UsdGeom.Xform.Define(stage, "/set")
    stage.Save()

    def told(argument: str) -> str:
        with pytest.raises(InputError) as caught:
            ShotCamera.open(argument).at(frame())
        return str(caught.value).replace(f"{tmp_path}/", "")

    assert told(f"{path}:/none") == "shot.usda has no prim /none. Name a camera: /cam."
    assert told(f"{path}:/set") == "/set in shot.usda is no camera. Name a camera: /cam."
    assert told(f"{path}:none:/cam").startswith("--camera shot.usda:none:/cam names no USD file.")
    assert told(str(tmp_path / "shot.abc")).endswith(
        "Give a .usd, .usda, .usdc or .usdz, or FILE:/prim/path."
    )
    assert told(str(tmp_path / "other.usd")) == "other.usd: no such file. Check the path."
    (tmp_path / "text.usd").write_text("a camera")
    assert told(str(tmp_path / "text.usd")) == "text.usd is not a readable USD file. Export it again."
    camera.GetFocalLengthAttr().Set(0.0)
    stage.Save()
    assert told(str(path)) == "shot.usda:/cam has no focal length or no aperture at frame 1. Export it again."
    camera.GetFocalLengthAttr().Set(1e5)
    stage.Save()
    assert "which is not between 1 and 170. Correct its focal length" in told(str(path))
    camera.GetFocalLengthAttr().Set(18.0)
    camera.GetProjectionAttr().Set("orthographic")
    stage.Save()
    assert told(str(path)) == "shot.usda:/cam is orthographic at frame 1. Give a perspective camera."
    camera.GetProjectionAttr().Set("perspective")
    scale = UsdGeom.Xformable(camera).AddScaleOp()
    for size in ((-1, 1, 1), (1, 0, 1)):
        scale.Set(Gf.Vec3f(*size))
        stage.Save()
        assert told(str(path)) == "shot.usda:/cam is mirrored or flat at frame 1. Make its scale positive."
    UsdGeom.Camera.Define(stage, "/two")
    stage.Save()
    assert told(str(path)) == f"shot.usda has several cameras: /cam, /two. Name one: {path}:/cam.".replace(
        f"{tmp_path}/", ""
    )
    for name in ("/cam", "/two"):
        stage.RemovePrim(name)
    stage.Save()
    assert told(str(path)) == "shot.usda has no camera. Export the shot's camera as well."
    with pytest.raises(InputError, match="--fov and --camera both tell the field of view"):
        ShotCamera.of(parsed(camera=str(path), fov=50.0), [])


def test_without_pxr_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shot.usda").write_text("#usda 1.0\n")
    monkeypatch.setitem(__import__("sys").modules, "pxr", None)
    with pytest.raises(
        InputError, match=r"needs the package usd-core. Install it: pip install 'platelight\[usd\]'"
    ):
        ShotCamera.open(str(tmp_path / "shot.usda"))


@pytest.mark.parametrize("tilt", [0.0, -25.0])
def test_the_light_stays_in_the_world(tmp_path: Path, tilt: float) -> None:
    """A bright spot of the light is where the camera, turned and tilted, must see it; ``--rotate`` turns the world's light."""
    light = 0.1 + directions(64).clamp_min(0).pow(8)  # red at +X, green up, blue behind the camera
    write_light(tmp_path / "sky.exr", light.numpy(), {})
    stage, camera = stage_at(tmp_path / "shot.usda")
    placed = UsdGeom.Xformable(camera)
    placed.AddRotateYOp().Set(70.0)
    placed.AddRotateXOp().Set(tilt)
    stage.Save()
    line = parsed(light=[Light(str(tmp_path / "sky.exr"))], camera=str(tmp_path / "shot.usda"), rotation=15.0)
    lighting = Lighting.of(line, [frame()], ShotCamera.of(line, [frame()]))
    request = lighting.request(frame())
    assert request["fov"] == pytest.approx(90.0)
    assert request["rotation"] == pytest.approx(85.0 if tilt == 0.0 else 0.0)
    pixels = lighting.read(frame())["light"]
    assert pixels is not None
    axes = ShotCamera.open(str(tmp_path / "shot.usda")).at(frame()).axes
    rng = np.random.default_rng(0)
    for way in rng.normal(size=(20, 3)):
        seen = torch.tensor(way / np.linalg.norm(way), dtype=torch.float32)
        world = turn(torch.tensor(axes, dtype=torch.float32) @ seen, -15.0)
        expected = 0.1 + world.clamp_min(0).pow(8)
        env = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        found = sample(env, turn(seen, -request["rotation"])[None, :, None, None])[0, :, 0, 0]
        assert found.numpy() == pytest.approx(expected.numpy(), abs=0.02)


def test_a_small_sun_keeps_its_power_before_a_camera_that_tilts() -> None:
    env = torch.zeros(1, 1, 128, 256)
    env[..., 20:22, 100:102] = 1000.0
    weights = solid_angles(128)
    powers = []
    for degrees in np.linspace(1, 30, 12):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        tilted = seen_from(env, torch.tensor([[1, 0, 0], [0, c, -s], [0, s, c]]))
        powers.append(float((tilted * weights).sum()))
    assert np.array(powers) == pytest.approx(float((env * weights).sum()), rel=0.03)
