"""The built zip: validated, installed into clean folders, used, removed."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from haven import Haven

SCRIPTS = Path(__file__).parent / "scripts"
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.blender
OPERATORS = [
    "add_hdri_folder",
    "analyse",
    "browse_hdris",
    "build_scene",
    "cancel",
    "clear_cache",
    "composite",
    "copy_key",
    "download_hdri",
    "drag_distance",
    "forget_backend",
    "fov_from_lens",
    "install_backend",
    "instant_preview",
    "load_plate",
    "match_scene_light",
    "pair",
    "refine",
    "refresh_hdris",
    "relight_range",
    "remove_hdri_folder",
    "remove_plate",
    "render_preview",
    "rendered_view",
    "save_composite",
    "save_maps",
    "scale_from_width",
    "set_light",
    "show_map",
    "start_backend",
    "stop_backend",
    "test_backend",
    "turn_light",
    "update_light",
    "use_footage",
    "use_plate_light",
]


def test_the_zip_holds_what_it_should(built_zip: Path) -> None:
    with zipfile.ZipFile(built_zip) as archive:
        names = archive.namelist()
        manifest = archive.read("blender_manifest.toml").decode()
        wire = archive.read("wire.py").decode()
        vendored = {
            name: archive.read(name).decode() for name in names if name.startswith("_vendor/platelight/")
        }
    assert len([name for name in names if name.startswith("backend_wheel/platelight-")]) == 1
    assert "backend_wheel" not in manifest  # Blender must not install it into its own Python
    wheels = sorted(name for name in names if name.endswith(".whl") and name.startswith("wheels/"))
    assert [name.split("/")[1].split("-")[0:3:2] for name in wheels] == [
        ["msgspec", "cp311"],
        ["msgspec", "cp313"],
        ["pyzmq", "cp311"],
        ["pyzmq", "cp313"],
    ]
    assert len({name.split("-")[1] for name in wheels if "pyzmq" in name}) == 1
    assert all(f'"./{name}"' in manifest for name in wheels)
    assert 'id = "platelight"' in manifest
    assert 'blender_version_min = "4.2.0"' in manifest
    assert "from ._vendor.platelight" in wire
    for name, text in vendored.items():
        assert "from platelight" not in text, name
        assert "import torch" not in text, name
    assert "_vendor/platelight/shading/principled.py" in vendored
    assert "_vendor/platelight/shading/brdf.py" not in vendored


def test_building_leaves_the_source_alone(built_zip: Path) -> None:
    assert built_zip.is_file()
    assert "wheels = " not in (ROOT / "blender_addon" / "blender_manifest.toml").read_text("utf-8")
    assert not (ROOT / "blender_addon" / "_vendor").exists()


def test_install_enable_disable_remove(run_blender: Callable[..., Any], built_zip: Path) -> None:
    # Only what is in the zip may be used: the package of this checkout is not on the path.
    seen = run_blender("install.py", built_zip, environment={"PYTHONPATH": ""})
    nothing = {key: [] for key in seen["clean"]}
    assert seen["clean"] == nothing
    assert seen["installed"] == ["FINISHED"]
    first = seen["first"]
    assert first["operators"] == OPERATORS
    assert first["properties"] == ["platelight"]
    # Before loading and saving, after saving well or badly, after undo and redo.
    assert len(first["handlers"]) == 6
    assert seen["between"] == nothing
    assert seen["second"] == first
    assert seen["third"] == first
    assert seen["last"] == nothing
    assert seen["removed"] == ["FINISHED"]
    assert seen["vendored"].startswith("bl_ext.user_default.platelight._vendor.platelight.")


@pytest.mark.slow
def test_plate_to_result_over_the_real_server(
    run_blender: Callable[..., Any], built_zip: Path, server: Path, tmp_path: Path
) -> None:
    out = run_blender("flow.py", built_zip, environment={"PYTHONPATH": ""})
    polls = out["polls before"]
    assert not any(polls.values()), polls
    for step in (
        "load",
        "analyse",
        "light",
        "build",
        "build again",
        "render",
        "render png",
        "refine",
        "maps",
        "remove",
    ):
        assert out[step] == "", (step, out[step], server.read_text())
    assert "nowhere.png is not a file." in out["no plate"]
    assert "text.png is not a picture" in out["no picture"]
    assert "text.png is not a picture" in out["told"]
    assert out["told after"] == "", "why a button failed stays after it did not"
    assert "none.png is not a file" in out["no matte"]
    assert "has no alpha" in out["no alpha"]
    assert "No subject was found in the plate. Give a matte." in out["no subject"]
    assert out["cancelled"] == "not finished"
    assert out["maps after cancel"] is False
    assert out["progress"] >= 2
    assert "twice as wide as high" in out["bad light"]
    assert "neither .exr nor .png" in out["refine jpg"]
    assert out["linear grey"] == pytest.approx(((128 / 255 + 0.055) / 1.055) ** 2.4, abs=2e-3)
    assert out["skin"] == [False, True, pytest.approx(0.001 * 4.0 * 3.14159 * 1.04, rel=1e-3), "", False]
    # 50 mm before 36 mm, as Blender's own camera has it; then the camera that is built
    assert out["lens"] == ["", pytest.approx(39.598, abs=1e-2), pytest.approx(50.0, rel=1e-3)]
    assert out["scale"] == ["", pytest.approx(4.0, rel=1e-3), "", pytest.approx(2.0, rel=1e-3)]
    assert out["objects stay"] is True
    assert out["settings kept"] is True
    assert out["blocker kept"] is True
    assert out["center"][0] > 0.1
    assert out["center"][1] == pytest.approx(1.0, abs=1e-3)
    assert out["passes sum"] < 0.01
    assert 0.05 < out["brightness"] < 5.0
    assert out["layers"]["preview.exr"] == ["", "diffuse", "specular"]
    assert out["layers"]["shot.relit.exr"] == ["", "diffuse", "pbr", "specular"]
    assert out["layers"]["shot.light.exr"] == [""]
    assert out["layers"]["shot.maps.exr"] == [
        "",
        "albedo",
        "cavity",
        "depth",
        "matte",
        "normal",
        "reflectivity",
        "roughness",
    ]
    assert out["world rotation"] == pytest.approx(25.0, abs=1e-3)
    assert out["normal after load"] == 0.0
    assert out["kept"] == [True, 40.0, 25.0]
    assert out["second plate"] == ["", "", ""]
    assert out["matte of alpha"] == [1.0, pytest.approx(0.2, abs=0.01)]
    assert out["sent of alpha"] == pytest.approx(0.2, abs=0.01)  # before black, as a camera would see it
    assert out["engines"][1] in {"BLENDER_EEVEE_NEXT", "BLENDER_EEVEE"}
    assert out["engines"][::2] == ["", ""]
    assert out["engines"][3] == "CYCLES"
    assert out["collections"] == 2
    assert out["left after remove"] == [1, 1]
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.slow
def test_the_command_relights(
    run_blender: Callable[..., Any], built_zip: Path, server: Path, tmp_path: Path
) -> None:
    import numpy as np
    from platelight.images import write_png

    write_png(tmp_path / "shot.png", np.full((48, 64, 3), 0.2, np.float32))
    write_png(tmp_path / "sky.png", np.full((32, 64, 3), 0.5, np.float32))
    arguments = ["relight", "shot.png", "--light", "sky.png", "-o", "out", "--samples", "2", "--rotate", "10"]
    codes = run_blender("command.py", built_zip, *arguments, environment={"PYTHONPATH": ""})
    assert codes == [2, 2, 0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == [
        "shot.light.exr",
        "shot.maps.exr",
        "shot.relit.exr",
    ]


def test_no_backend_is_a_sentence(run_blender: Callable[..., Any], built_zip: Path, tmp_path: Path) -> None:
    import numpy as np
    from platelight.images import write_png

    write_png(tmp_path / "shot.png", np.full((16, 16, 3), 0.2, np.float32))
    write_png(tmp_path / "sky.png", np.full((16, 32, 3), 0.5, np.float32))
    codes = run_blender(
        "command.py",
        built_zip,
        *["relight", "shot.png", "--light", "sky.png", "-o", "out"],
        environment={"PYTHONPATH": "", "PLATELIGHT_BACKEND": str(tmp_path / "none")},
    )
    assert codes == [2, 2, 2]


def test_panels_draw_in_every_state(run_blender: Callable[..., Any], built_zip: Path) -> None:
    seen = run_blender("panels.py", built_zip, environment={"PYTHONPATH": ""})
    order = ["Backend", "Plate", "Maps", "Light", "HDRIs", "Poly Haven", "Preview", "Composite"]
    assert seen["orders"] == {"view3d": order, "image": order}
    states = seen["states"]
    assert all(len(drawn) == 16 for drawn in states.values())
    assert "Normals" in states["busy"]["PLATELIGHT_PT_view3d_maps"]
    assert any("25 %" in text for text in states["busy"]["PLATELIGHT_PT_image_maps"])
    assert " ".join(states["failed"]["PLATELIGHT_PT_view3d_backend"]).endswith("The backend went away.")
    refused = {name: " ".join(texts) for name, texts in states["refused"].items()}
    told = {name.rpartition("_")[2] for name, text in refused.items() if "Nothing lights the plate." in text}
    assert told == {"composite"}  # and not once more in the Backend panel
    assert "Lamps that light the plate: 2" in states["refused"]["PLATELIGHT_PT_view3d_light"]
    shown = {
        name.rpartition("_")[2] for name, texts in states["refining"].items() if "Refining shot" in texts
    }
    assert shown == {"backend", "composite"}
    reference = (ROOT / "docs" / "addon.md").read_text("utf-8")
    drawn = seen["properties"]
    assert len(drawn) > 60
    assert [name for name in drawn if f"`{name}`" not in reference] == [], "not in docs/addon.md"
    assert seen["busy"] == {"analyse": False, "build_scene": False, "cancel": True, "load_plate": False}


def test_the_managed_backend_starts_and_stops(run_blender: Callable[..., Any], built_zip: Path) -> None:
    pytest.importorskip("platelight.server.serve", reason="the server is not there yet")
    seen = run_blender(
        "managed.py", built_zip, environment={"PYTHONPATH": "", "PLATELIGHT_BACKEND": sys.executable}
    )
    assert seen["started"] == ["FINISHED"]
    assert seen["seen"] == [
        ["before", False, False],
        ["started", True, False, "running"],
        ["stopped", False, True],
        ["again", True, True],
        ["disabled", True],
    ]
    for pid in seen["pids"]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
def test_the_backend_is_installed_from_the_zip(run_blender: Callable[..., Any], built_zip: Path) -> None:
    seen = run_blender("install_backend.py", built_zip, environment={"PYTHONPATH": ""})
    assert (seen["before"], seen["after"], seen["version"]) == ("missing", "ready", True)
    assert "stay offline" in seen["offline"]
    assert seen["installed"] == ["FINISHED"]
    assert seen["inside"]


def test_poly_haven_in_blender(
    run_blender: Callable[..., Any], built_zip: Path, haven: Haven, tmp_path: Path
) -> None:
    import numpy as np
    from platelight.images.exr import write_exr

    write_exr(tmp_path / "sky.exr", {c: np.full((16, 32), 0.5, np.float32) for c in "RGB"}, {})
    haven.content = (tmp_path / "sky.exr").read_bytes()
    environment = {"PYTHONPATH": "", "PLATELIGHT_POLYHAVEN": haven.address}
    seen = run_blender("browse.py", built_zip, environment=environment)
    assert seen["offline"] == [False, False]
    assert seen["found"] == ["night_city", "dusk"]
    assert seen["pictures"] == ["dusk.png", "night_city.png"]
    assert seen["light"].endswith("dusk_1k.exr")
