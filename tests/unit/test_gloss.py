"""What shines in the plate's own light is no brighter than the plate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.pipeline import service
from platelight.pipeline.gloss import LEAST, no_brighter_than_seen
from platelight.pipeline.relight import physical
from platelight.protocol.requests import Decompose
from platelight.shading.reference import view_directions

SIZE = (24, 32)


def flat(value: float, channels: int = 1) -> torch.Tensor:
    return torch.full((1, channels, *SIZE), value)


def facing() -> torch.Tensor:
    normal = flat(0.0, 3)
    normal[:, 2] = 1.0
    return normal


def allowed(f0: float, seen: float, light: torch.Tensor, normal: torch.Tensor | None = None) -> float:
    found = no_brighter_than_seen(
        flat(f0),
        flat(0.5),
        facing() if normal is None else normal,
        flat(seen, 3),
        light,
        view_directions(*SIZE, 30.0)[None],
    )
    assert found.shape == (1, 1, *SIZE)
    return float(found.mean())


def test_black_reflects_less_and_white_as_it_did() -> None:
    sky = torch.ones(1, 3, 16, 32)
    white, gray, black = (allowed(0.04, seen, sky) for seen in (0.8, 0.2, 0.01))
    assert 0.037 < white <= 0.04
    assert 0.03 < gray < white
    assert black == pytest.approx(LEAST * 0.04)


def test_a_render_of_black_cloth_stays_near_what_the_plate_showed() -> None:
    sky, normal = torch.ones(1, 3, 16, 32), facing()
    seen = 0.015
    maps = {"normal": normal, "albedo": flat(seen, 3), "roughness": flat(0.5), "reflectivity": flat(0.04)}
    before = sum(float(part.mean()) for part in physical(maps, sky, 30.0))
    f0 = no_brighter_than_seen(
        maps["reflectivity"],
        maps["roughness"],
        normal,
        flat(seen, 3),
        sky,
        view_directions(*SIZE, 30.0)[None],
    )
    after = sum(float(part.mean()) for part in physical({**maps, "reflectivity": f0}, sky, 30.0))
    assert before > 3 * seen  # gray
    assert after < 2 * seen


def test_only_light_that_is_mirrored_to_the_camera_counts() -> None:
    light = torch.zeros(1, 3, 16, 32)
    light[..., :3, :] = 20.0  # overhead
    up = facing()
    up[:, 1] = 1.0
    up = torch.nn.functional.normalize(up, dim=1)  # leant back by 45 degrees: it mirrors the zenith
    assert allowed(0.04, 0.05, light) == pytest.approx(0.04)
    assert allowed(0.04, 0.05, light, up) < 0.02


def test_units_of_light_and_plate_do_not_matter_and_metals_keep_theirs() -> None:
    sky = torch.ones(1, 3, 16, 32)
    assert allowed(0.04, 0.05, sky) == pytest.approx(allowed(0.04, 0.05 * 30, sky * 30), rel=1e-4)
    assert allowed(0.6, 0.6, sky) > 0.9 * 0.6  # a metal under this sky is as bright as its f0


def test_darkness_gives_numbers() -> None:
    dark = no_brighter_than_seen(
        flat(0.04),
        flat(0.5),
        facing(),
        flat(0.0, 3),
        torch.zeros(1, 3, 16, 32),
        view_directions(*SIZE, 30.0)[None],
    )
    assert np.isfinite(dark.numpy()).all()


def test_a_plate_that_is_taken_apart_reflects_less_where_it_is_black() -> None:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    height = np.sqrt(np.clip(0.8 - x**2 - y**2, 0, None))
    reach = np.hypot(x, y)
    paint = np.where(reach < 0.3, 0.006, 0.6)
    plate = np.repeat((paint * (0.4 + height))[..., None], 3, -1).astype(np.float32)
    matte = (height > 0).astype(np.float32)
    request = Decompose(matte="given", working_size=96, faces="off")
    f0 = service.run_job(request, {"plate": plate, "matte": matte}).planes["reflectivity"]
    black, white = f0[reach < 0.2].mean(), f0[(reach > 0.4) & (height > 0.4)].mean()
    assert black < 0.5 * white
