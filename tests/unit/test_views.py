"""Views of a bank: cut at the picture's size, lit at the picture's size, and the same however they were made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from platelight.training import views as views_module
from platelight.training.views import BANDS, Bank, harmonics

trimesh = pytest.importorskip("trimesh", reason="needs platelight[train]")
pytest.importorskip("embreex", reason="needs platelight[train]")

from platelight.training import raycast  # noqa: E402
from platelight.training.raycast import Mix, make_view, photograph  # noqa: E402
from platelight.training.subjects import build  # noqa: E402


@pytest.mark.parametrize("size", [96, 384])
def test_fine_facets_are_lit_by_the_sky_though_what_is_seen_of_it_is_coarse(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ball = trimesh.creation.icosphere(2)
    mesh = build(ball.vertices + np.array([0, 0, -12.0]), ball.faces, 8, flat=True)
    shard = tmp_path / "shard-00000"
    shard.mkdir()
    for name, values in photograph(mesh, 11.0, size, np.random.default_rng(0)).items():
        np.save(shard / f"{name}.npy", values[None])
    (shard / "manifest.json").write_text(json.dumps({"mix": {}}))

    def error() -> float:
        views = Bank(tmp_path).crop(torch.tensor([0]), size, torch.Generator().manual_seed(3))
        inside = torch.nn.functional.avg_pool2d((views.part > 0).float()[:, None], 9, 1, 4)[0, 0] > 0.99
        # Nothing hides the sky from a ball: its transfer is the cosine lobe of each facet.
        expected = harmonics(views.normal, 1) * torch.tensor(BANDS).view(1, 9, 1, 1)
        return float((views.transfer - expected).square()[:, 1:4, inside].mean())

    fine = error()
    monkeypatch.setattr(views_module, "turned", lambda transfer, before, after: transfer)
    assert fine < 0.25 * error()


def test_a_view_is_the_same_whether_its_subject_was_just_made_or_not() -> None:
    mix = Mix(heads=0.0, figurines=1.0)
    raycast._lasting.cache_clear()
    alone = make_view(7, None, 48, mix)
    make_view(6, None, 48, mix)
    again = make_view(7, None, 48, mix)
    assert raycast._lasting.cache_info().hits >= 1
    for name, values in alone.items():
        np.testing.assert_array_equal(values, again[name])
    assert (alone["part"] > 0).any()
