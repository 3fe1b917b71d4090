"""Things on a table: what lies below it is taken out, whichever way the thing's own coordinates run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.training.standing import LEFT, stood

SIZE = 120
Views = tuple[np.ndarray, np.ndarray, np.ndarray]


def ball(frame: np.ndarray) -> Views:
    """Part, rest coordinates and normals of a ball whose own axes are the columns of ``frame`` (3, 3) in the camera's."""
    c = (np.arange(SIZE) + 0.5) / SIZE * 2.4 - 1.2
    x, y = np.meshgrid(c, -c)
    part = np.where(x * x + y * y < 1, 8, 0).astype(np.uint8)
    place = np.stack([x, y, np.sqrt(np.maximum(1 - x * x - y * y, 0))], -1) * (part > 0)[..., None]
    return part, (place @ frame).astype(np.float16), place.astype(np.float16)


def turned(seed: int, mirrored: bool) -> np.ndarray:
    frame, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return frame * (-1 if (np.linalg.det(frame) < 0) != mirrored else 1)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_left_stands_on_a_plane_that_is_seen_from_above(seed: int, mirrored: bool) -> None:
    part, rest, normal = ball(turned(seed, mirrored))
    left = stood(part, rest, normal, torch.Generator().manual_seed(seed))
    kept, gone = left > 0, (part > 0) & (left == 0)
    assert gone.any()
    assert kept.sum() > LEFT * (part > 0).sum()
    assert (left[kept] == part[kept]).all()
    # The plane that parts them best looks up, and towards the camera if anywhere.
    places = np.concatenate([normal[kept], normal[gone]]).astype(np.float64)
    sides = np.concatenate([np.ones(kept.sum()), -np.ones(gone.sum())])
    weight = np.where(sides > 0, 1 / kept.sum(), 1 / gone.sum())
    terms = np.concatenate([places, np.ones((len(places), 1))], 1) * np.sqrt(weight)[:, None]
    plane = np.linalg.lstsq(terms, sides * np.sqrt(weight), rcond=None)[0][:3]
    assert plane[1] > abs(plane[0])
    assert plane[2] > -0.15 * plane[1]
    # Normals of what stands look up in the mean, as those of a floating ball do not.
    assert abs(normal[part > 0][:, 1].astype(np.float64).mean()) < 0.01
    assert normal[kept][:, 1].astype(np.float64).mean() > 0.02


def test_what_is_bent_or_tiny_stays_whole() -> None:
    part, rest, normal = ball(np.eye(3))
    bent = rest.copy()
    bent[..., 1] = np.abs(bent[..., 1])
    generator = torch.Generator().manual_seed(1)
    assert stood(part, bent, normal, generator) is part
    tiny = np.zeros_like(part)
    tiny[:10, :10] = 8
    assert stood(tiny, rest, normal, generator) is tiny
