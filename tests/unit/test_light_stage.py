"""The light stage without Blender: lamps, weights, shards, stores, resuming, and the sums that the trainer gets."""

from __future__ import annotations

import functools
import http.server
import json
import math
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from platelight.protocol.errors import InputError
from platelight.shading.environment import directions, rotate
from platelight.training.light_stage import StageConfig
from platelight.training.light_stage_lights import fibonacci, latlong_weights, rig, texel_directions
from platelight.training.light_stage_reader import StageReader, as_subject, weights_of
from platelight.training.light_stage_run import describe, make_set
from platelight.training.light_stage_store import Store, pack, rounded_half, shard_name, unpack
from platelight.training.light_stage_subjects import Casting, Family
from platelight.training.subjects import Part
from stage_balls import LAMPS, SIZE, ball, fill


@pytest.mark.parametrize("count", [12, 64, 150])
def test_lamps_tile_the_sphere(count: int) -> None:
    tiles = rig(count)
    assert math.isclose(tiles.solid_angles.sum(), 4 * math.pi, rel_tol=1e-9)
    assert tiles.solid_angles.max() < 1.5 * tiles.solid_angles.min()
    # The triangles that Cycles gets, each from the lamp's direction to two corners, have the same solid angles.
    for direction, cell, expected in zip(tiles.directions, tiles.cells, tiles.solid_angles, strict=True):
        total = 0.0
        for a, b in zip(cell, np.roll(cell, -1, 0), strict=True):
            volume = float(direction @ np.cross(a, b))
            total += 2 * math.atan2(
                volume, 1 + a @ b + b @ direction + direction @ a
            )  # van Oosterom, Strackee 1983
        assert math.isclose(total, expected, rel_tol=1e-6)


def test_texels_have_the_projects_convention() -> None:
    assert np.allclose(texel_directions(8), directions(8).reshape(-1, 3).numpy(), atol=1e-6)


@pytest.mark.parametrize("rows", [8, 32, 100])
def test_weights_keep_power_and_find_the_lamp(rows: int) -> None:
    matrix = latlong_weights(LAMPS, rows)
    assert np.allclose(matrix.sum(1), 1, atol=0.02)  # a uniform sky is a uniform rig
    rng = np.random.default_rng(0)
    env = torch.from_numpy(rng.uniform(0.1, 5, (1, 3, rows, 2 * rows)))
    power = torch.einsum("nlc,l->nc", weights_of(env, LAMPS), torch.from_numpy(rig(LAMPS).solid_angles))
    edges = np.cos(np.arange(rows + 1) / rows * math.pi)
    exact = (env[0].sum(-1) * torch.from_numpy((edges[:-1] - edges[1:]) * math.pi / rows)).sum(-1)
    assert torch.allclose(power[0], exact, rtol=0.01)
    if rows >= 32:
        near = np.argmax(texel_directions(rows) @ fibonacci(LAMPS)[17])
        assert matrix[:, near].argmax() == 17


def test_half_floats_lose_at_most_a_fifth_of_a_percent() -> None:
    values = np.random.default_rng(0).uniform(1e-3, 100, 10000).astype(np.float32)
    assert np.abs(rounded_half(values) / values - 1).max() < 2.5e-3
    np.testing.assert_array_equal(rounded_half(-values), -rounded_half(values))
    assert np.isfinite(rounded_half(np.array([1e9], np.float32))).all()


def test_a_shard_survives_packing() -> None:
    shard = ball()
    back = unpack(pack(shard), "x")
    assert np.allclose(back.olat, shard.olat, rtol=3e-3, atol=1e-6)
    for name, values in shard.maps.items():
        assert np.allclose(back.maps[name], values, atol=2e-3), name
    assert back.info["fov"] == 30.0


def test_damage_is_one_sentence() -> None:
    data = pack(ball())
    for bad in (
        b"",
        b"nonsense",
        data[: len(data) // 2],
        data[:-40] + bytes(40),
        data[:200] + b"\0\1" + data[202:],
    ):
        with pytest.raises(InputError, match=r"subject-x"):
            unpack(bad, "subject-x")


def test_relit_ball_is_shading() -> None:
    """The sum over lamps equals Lambert's law under the same environment, integrated texel by texel."""
    rng = np.random.default_rng(3)
    rows = 32
    smooth = rng.uniform(0, 1, (1, 3, 4, 8))
    env = torch.nn.functional.interpolate(torch.from_numpy(smooth), size=(rows, 2 * rows), mode="bilinear")
    shard = ball(lamps=256)
    subject = as_subject(shard)
    relit = subject.relight(env.float())[0]
    edges = np.cos(np.arange(rows + 1) / rows * math.pi)
    area = np.repeat((edges[:-1] - edges[1:]) * math.pi / rows, 2 * rows)
    cosine = np.clip(np.einsum("hwc,tc->hwt", shard.maps["normal"], texel_directions(rows)), 0, None)
    light = env[0].reshape(3, -1).numpy()
    exact = (
        np.einsum("hwt,ct,t->chw", cosine, light, area) * np.moveaxis(shard.maps["albedo"], -1, 0) / math.pi
    )
    inside = shard.maps["alpha"][..., 0] > 0
    error = np.abs(relit.numpy() - exact)[:, inside].mean() / exact[:, inside].mean()
    assert error < 0.02


def test_turning_the_light_is_turning_the_weights() -> None:
    env = torch.rand(1, 3, 16, 32)
    subject = as_subject(ball())
    assert torch.allclose(subject.relight(env, 45.0), subject.relight(rotate(env, 45.0)))
    side = torch.zeros(1, 3, 16, 32)
    side[..., 7:9, 23:25] = 100.0  # at three quarters of the width, so from screen right
    lit = subject.relight(side)[0].mean(0)
    assert lit[:, SIZE // 2 :].sum() > 5 * lit[:, : SIZE // 2].sum()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A set in a folder that a web server gives on loopback."""
    fill(Store(str(tmp_path / "set")), 2)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_web_server_serves_as_a_folder_does(served: str, tmp_path: Path) -> None:
    near, far = StageReader(str(tmp_path / "set")), StageReader(f"{served}/set")
    assert far.names == near.names == [shard_name(0), shard_name(1)]
    assert torch.equal(far.subject(1).olat, near.subject(1).olat)
    assert far.manifest == near.manifest
    with pytest.raises(InputError, match="no light-stage set"):
        StageReader(f"{served}/elsewhere")


def test_memory_serves_as_a_folder_does() -> None:
    url = "memory://platelight-test-stage"
    fill(Store(url), 3)
    reader = StageReader(url)
    assert len(reader) == 3
    assert reader.store.index() == reader.names
    assert torch.allclose(reader.subject(2).albedo, as_subject(ball(2)).albedo, atol=1e-3)
    with pytest.raises(InputError, match="cannot be read"):
        reader.store.read_shard(shard_name(9))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="no store"):
        Store("nosuch://thing")


def test_a_store_that_cannot_be_written_says_so(served: str) -> None:
    from platelight.protocol.errors import PlatelightError

    with pytest.raises(PlatelightError, match="could not be written"):
        Store(f"{served}/set").write("index.json", b"{}")


class Taking(http.server.SimpleHTTPRequestHandler):
    """A web server that stores what is put."""

    def do_PUT(self) -> None:
        Path(self.translate_path(self.path)).write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_set_is_written_over_http(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    handler = functools.partial(Taking, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fill(Store(f"http://127.0.0.1:{server.server_address[1]}/set"), 2)
        server.shutdown()
    assert StageReader(str(tmp_path / "set")).names == [shard_name(0), shard_name(1)]


TOY = textwrap.dedent(
    """
    import json, os, sys
    from pathlib import Path
    from platelight.training.light_stage_store import Store, shard_name
    packed = Path(__file__).with_suffix(".st.zst").read_bytes()
    job = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        index = int(line)
        mark = Path(job["url"]) / f"died-{index}"
        if index == 5 or (index == 2 and not mark.exists()):
            mark.touch()
            os.abort()
        Store(job["url"]).write(shard_name(index), packed)
        print(json.dumps({"done": index}), flush=True)
    """
)


@pytest.fixture
def toy(tmp_path: Path) -> tuple[str, ...]:
    """A worker without Blender, killed by its own hand at subject 2 once, at subject 5 every time."""
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    path.with_suffix(".st.zst").write_bytes(pack(ball()))
    return (str(path),)


def test_crashes_are_survived_and_runs_resumed(tmp_path: Path, toy: tuple[str, ...]) -> None:
    out = tmp_path / "set"
    config = StageConfig(str(out), 4, lamps=LAMPS, size=SIZE, workers=2)
    made, failed = make_set(config, lambda _: None, toy)
    assert (made, failed) == (4, [])  # subject 2 killed its worker once and was made by another
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("subject-*")}
    (out / shard_name(1)).unlink()
    (out / ".subject-000009.1-ab.part.zst").write_bytes(b"half")  # what a kill leaves
    made, failed = make_set(StageConfig(str(out), 6, lamps=LAMPS, size=SIZE), lambda _: None, toy)
    assert (made, failed) == (2, [5])  # 1 and 4; 5 kills every worker and is left out
    assert Store(str(out)).index() == [shard_name(i) for i in range(5)]
    for name, before in times.items():
        if name != shard_name(1):
            assert (out / name).stat().st_mtime_ns == before
    manifest = json.loads((out / "manifest.json").read_text())
    assert len(manifest["directions"]) == LAMPS
    assert manifest["versions"]["platelight"]
    with pytest.raises(InputError, match="was begun with size 24"):
        make_set(StageConfig(str(out), 1, lamps=LAMPS, size=32), lambda _: None, toy)


def test_a_run_without_data_adds_objects_to_a_set_of_heads(tmp_path: Path, toy: tuple[str, ...]) -> None:
    out = tmp_path / "set"
    objects = StageConfig(str(out), 2, lamps=LAMPS, size=SIZE)
    manifest = describe(objects, Casting(None))
    store = Store(str(out))
    store.write_manifest({**manifest, "families": {**manifest["families"], "head": 0.24}})
    assert make_set(objects, lambda _: None, toy) == (2, [])
    found = store.manifest()
    assert found is not None
    assert "head" in found["families"]
    # Not the other way round: a set of objects does not say whose heads those would be.
    store.write_manifest({**manifest, "families": {"figurine": 1.0}})
    with pytest.raises(InputError, match="was begun with families"):
        make_set(objects, lambda _: None, toy)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"lamps": 3}, "lamps"), ({"subjects": 0}, "subjects"), ({"data": Path("/nowhere")}, "nowhere")],
)
def test_bad_options_are_one_sentence(tmp_path: Path, change: dict[str, object], said: str) -> None:
    config = StageConfig(**{"url": str(tmp_path / "set"), "subjects": 1, **change})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        make_set(config)


def test_casting_is_repeatable_and_needs_no_data() -> None:
    casting = Casting(None)
    assert Family.HEAD not in casting.families
    one, two = casting.draw(5, 3, Family.SCULPT), casting.draw(5, 3, Family.SCULPT)
    assert np.array_equal(one.mesh.vertices, two.mesh.vertices)
    corners = one.mesh.vertices[one.mesh.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("fi,fi->f", facing, one.mesh.normals.sum(1)) >= 0).all()
    with pytest.raises(InputError, match="no data"):
        casting.draw(5, 3, Family.HEAD)


@pytest.mark.shared
def test_every_family_is_cast(tmp_path: Path) -> None:
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("no training data beside the project")
    casting = Casting(data)
    assert set(casting.families) | {Family.BODY} == set(Family)  # bodies: test_bodies.py
    for family in (Family.HEAD, Family.SCAN, Family.CLOTH, Family.GLTF):
        subject = casting.draw(2, 1, family)
        assert subject.family is family
        assert np.isfinite(subject.mesh.vertices).all()
        assert subject.mesh.vertices[:, 2].max() < 0, "in front of the camera"
        if family is Family.HEAD:
            assert (subject.mesh.part == int(Part.SKIN)).any()
        if family in (Family.SCAN, Family.GLTF):
            assert {"color", "normal"} <= set(subject.textures)
            assert all(Path(p).is_file() for p in subject.textures.values())
