"""What true maps would give: they are put where they belong, and only where they are known."""

from __future__ import annotations

import numpy as np
import torch
from platelight.pipeline.resample import Window
from platelight.training.ceilings import told, with_truth
from torch.nn import functional as F

SIDE = 64


def normals(lean: float) -> np.ndarray:
    c = (np.arange(SIDE) + 0.5) / SIDE * 2.2 - 1.1
    x, y = np.meshgrid(c, -c)
    n = np.stack([x + lean + 0.2 * np.sin(np.arange(SIDE) * 2.0), y, np.ones_like(x)], -1)
    return (n / np.linalg.norm(n, axis=-1, keepdims=True)).astype(np.float32)


def test_the_truth_stands_where_it_is_known() -> None:
    true = normals(0.0)
    true[:10] = 0
    given = {
        "normal": np.broadcast_to(np.float32([0, 0, 1]), true.shape),
        "albedo": np.full((SIDE, SIDE, 3), 0.5),
    }
    out = with_truth({"normal": true}, given, ("normal", "albedo"))
    np.testing.assert_array_equal(out["normal"][10:], true[10:])
    assert (out["normal"][:10] == [0, 0, 1]).all()
    assert out["albedo"] is given["albedo"]


def test_detail_and_form_are_parted() -> None:
    true, answer = normals(0.0), torch.from_numpy(normals(0.5)).permute(2, 0, 1)[None]
    plain = F.avg_pool2d(F.pad(answer, (4, 4, 4, 4), mode="replicate"), 9, 1)
    plain = F.normalize(plain, dim=1)
    window = Window(0, 0, SIDE, SIDE)
    want = torch.from_numpy(true).permute(2, 0, 1)[None]

    def wrong(found: torch.Tensor) -> tuple[float, float]:
        """How wrong the mean normal and the stripes are."""
        error = found - want
        fine = error - F.avg_pool2d(error, 9, 1, 4)
        return float(error[..., 12:-12, 12:-12].mean((2, 3)).norm()), float(fine[..., 12:-12, 12:-12].std())

    lean, stripes = wrong(plain)
    whole, detail, form = (wrong(told(true, window, part)(plain)) for part in ("all", "detail", "form"))
    assert max(whole) < 1e-4
    assert form[0] < 0.2 * lean
    assert form[1] > 0.8 * stripes
    assert detail[0] > 0.8 * lean
    assert detail[1] < 0.5 * stripes
