"""Lights from several places of a tall subject: nearer to the truth than the light of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytestmark = pytest.mark.blender
BLOCK = 4


def blocks(plane: np.ndarray) -> np.ndarray:
    """Means of 4 by 4 pixels: Cycles' noise averages out, bias stays."""
    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    return plane.reshape(rows, BLOCK, columns, BLOCK, -1).mean(axis=(1, 3))


def picture(*planes: np.ndarray) -> np.ndarray:
    """Planes beside one another as 8-bit sRGB, BGR as OpenCV writes it, three times as large."""
    from platelight.images.color import linear_to_srgb

    row = np.hstack([np.pad(plane, ((0, 0), (2, 2), (0, 0))) for plane in planes])
    shown = (255 * linear_to_srgb(np.clip(row * 1.5, 0.0, 1.0))).round().astype(np.uint8)
    return np.ascontiguousarray(shown[..., ::-1].repeat(3, 0).repeat(3, 1))


def relit(folder: Path, count: int) -> tuple[Any, dict[str, np.ndarray], Any]:
    """The request that was sent for the light of ``count`` places, its planes, and the backend's answer without refiner."""
    import torch
    from platelight.pipeline.relight import relight
    from platelight.protocol.requests import Relight

    request = msgspec.json.decode((folder / f"{count}.json").read_bytes(), type=Relight)
    planes = dict(np.load(folder / f"{count}.npz"))
    plain = msgspec.structs.replace(request, pbr_only=True)
    return request, planes, relight(None, planes, plain, torch.device("cpu"), lambda *_: None, lambda: False)


def test_a_wide_and_tall_subject_has_its_places_on_both_sides(
    run_blender: Callable[..., Any], tmp_path: Path
) -> None:
    """A white wall under a small lamp 1.2 m before it: brightness as physics has it, E = P cos / (4 pi r²)."""
    seen = run_blender("places.py", tmp_path)
    assert sorted(seen["all"]) == [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    assert sorted(seen["tall"]) == [[0.375, v] for v in (0.125, 0.375, 0.625, 0.875)]
    assert sorted(seen["wide"]) == [[u, 0.25] for u in (0.125, 0.375, 0.625, 0.875)]
    assert sorted(seen["two"]) == [[0.5, 0.25], [0.5, 0.75]]
    x, y, z, power, far = seen["lamp"]
    places = {count: relit(tmp_path, count) for count in (1, 4)}
    assert [tuple(round(each, 4) for each in place) for place in places[4][0].places] == [
        tuple(place) for place in seen["all"]
    ]
    size = places[1][2].diffuse.shape[0]
    at = ((np.arange(size) + 0.5) / size - 0.5) * seen["across"]
    apart = np.stack(np.broadcast_arrays(x - at[None], y + at[:, None], z + far))
    away = np.linalg.norm(apart, axis=0)
    truth = power / (4.0 * np.pi) * apart[2] / away**3 / np.pi  # what a white wall sends is E over pi
    errors = {
        count: float(np.abs(found.diffuse[..., 1] - truth).mean() / truth.mean())
        for count, (_, _, found) in places.items()
    }
    print(", ".join(f"{count} places: {100 * error:.1f} %" for count, error in errors.items()))
    assert errors[4] < 0.5 * errors[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_several_places_are_nearer_to_the_truth(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    import cv2

    seen = run_blender("several_places.py", tmp_path, timeout=800)
    names = ["light", "light_2", "light_3", "light_4"]
    assert [seen[f"lights {count}"] for count in (1, 2, 3, 4)] == [names[:count] for count in (1, 2, 3, 4)]
    assert [seen[f"images {count}"] for count in (1, 4, 3, 2)] == [1, 4, 3, 2]
    several = [f"light{count}.{k}.exr" for count in (2, 3, 4) for k in range(1, count + 1)]
    assert seen["files"] == ["light1.exr", *several]
    assert seen["views left"] == [["left", True], ["right", True]]
    assert (seen["multiview left"], seen["cameras left"]) == (False, 1)
    assert seen["by Cycles"] == ["light"]
    assert seen["another plate"] == 0

    truth = np.load(tmp_path / "truth.npz")["truth"][..., :3]
    errors, shown = {}, []
    for count in (1, 2, 3, 4):
        request, planes, answer = relit(tmp_path, count)
        ours = answer.pbr
        assert len(request.places) == (count if count > 1 else 0)
        shown.append(ours * planes["matte"][..., None])
        solid = blocks(planes["matte"])[..., 0] == 1.0
        one, other = blocks(ours)[solid], blocks(truth)[solid]
        errors[count] = float(np.abs(one - other).mean() / other.mean())
        levels = [float(part.mean()) for part in np.array_split(one.mean(1) / other.mean(1), 3)]
        print(f"{count} places: {100 * errors[count]:.1f} %; top, middle, bottom over the truth: "
              + ", ".join(f"{level:.2f}" for level in levels))  # fmt: skip
    cv2.imwrite(
        str(tmp_path / "scene_light_places.jpg"),
        picture(shown[0], shown[2], truth * planes["matte"][..., None]),
    )
    assert errors[2] < 0.75 * errors[1]
    assert errors[3] < 0.5 * errors[1]
    assert errors[4] < errors[3]
