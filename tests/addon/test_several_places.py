"""Lights from several places of a tall subject: nearer to the truth than the light of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytestmark = [pytest.mark.blender, pytest.mark.slow, pytest.mark.timeout(900)]
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


def test_several_places_are_nearer_to_the_truth(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    import cv2
    import torch
    from platelight.pipeline.relight import relight
    from platelight.protocol.requests import Relight

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
        request = msgspec.json.decode((tmp_path / f"{count}.json").read_bytes(), type=Relight)
        assert len(request.places) == (count if count > 1 else 0)
        planes = dict(np.load(tmp_path / f"{count}.npz"))
        request = msgspec.structs.replace(request, pbr_only=True)
        ours = relight(None, planes, request, torch.device("cpu"), lambda *_: None, lambda: False).pbr
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
