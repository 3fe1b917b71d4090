"""The method's choices against their alternatives: that each alternative is what it says, and the table of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from platelight.images import write_png_values
from platelight.images.exr import write_exr
from platelight.models import registry
from platelight.models.networks import FLOOR, MIDDLE, CrossAttention, luminance
from platelight.pipeline.evaluate import Case
from platelight.training.ablations import DirectStage, DivisionStage, Pooling, as_batch, main
from platelight.training.materials import Surface
from platelight.training.pictures import Batch


def batch_of(plate: float, albedo: float) -> Batch:
    one = torch.ones(1, 1, 8, 8)
    three = one.expand(-1, 3, -1, -1)
    surface = Surface(three * albedo, one * 0.5, one * 0.04, three * 0, one, one * 0)
    return Batch(three * plate, one, surface, torch.ones(1, 3, 32, 64), three * 0)


def test_one_answers_by_division_the_other_itself() -> None:
    nothing = torch.zeros(1, 3, 8, 8)
    division, direct = DivisionStage(registry.SHIPPED), DirectStage(registry.SHIPPED)
    for stage in (division, direct):
        assert stage.start(registry.SHIPPED) == "NormalNet"
        assert not stage.network.head.weight[3:].any()  # type: ignore[union-attr,index]
    assert division.paint_error(nothing, batch_of(0.5, 0.48)).mean() == pytest.approx(
        math.log((0.5 + FLOOR) / 0.5), rel=1e-4
    )
    for plate in (0.1, 0.5):
        error = direct.paint_error(nothing, batch_of(plate, 0.48)).mean()
        assert error == pytest.approx(DirectStage.GRAY - math.log(0.5), rel=1e-4)


def test_pooling_tells_queries_apart_by_themselves_only() -> None:
    torch.manual_seed(3)
    pooling, attention = Pooling(32, 4), CrossAttention(32, 4)
    attention.load_state_dict(pooling.state_dict())
    queries = torch.randn(1, 1, 32).expand(1, 5, 32) + 0.1 * torch.randn(1, 5, 32)
    tokens, keep = 3 * torch.randn(1, 9, 32), torch.arange(9)[None] < 6
    other = torch.cat([tokens[:, :6].flip(1), torch.randn(1, 3, 32)], 1)

    def given(layer: CrossAttention) -> torch.Tensor:
        found: torch.Tensor = layer(queries, tokens, keep)
        return found

    assert torch.allclose(given(pooling), pooling(queries, other, keep), atol=1e-5)
    assert torch.allclose(given(attention), attention(queries, other, keep), atol=1e-5)
    assert not torch.allclose(given(pooling), given(attention), atol=1e-2)


def test_a_photograph_becomes_what_trainers_see(tmp_path: Path) -> None:
    """A ball off the picture's middle, cut by its lower edge; its normals are known but for a hole."""
    y, x = np.mgrid[:60, :80]
    px, py = (x - 50) / 20, (50 - y) / 20
    inside = px**2 + py**2 < 1
    normal = np.stack([px, py, np.sqrt(np.clip(1 - px**2 - py**2, 0, 1))]).astype(np.float32) * inside
    hole = (np.abs(px) < 0.1) & (np.abs(py) < 0.1)
    write_exr(tmp_path / "normal.exr", {c: normal[k] * ~hole for k, c in enumerate("RGB")}, {})
    plate = (0.2 + normal[2]).astype(np.float32) * inside
    write_exr(tmp_path / "plate.exr", dict.fromkeys("RGB", plate), {})
    write_png_values(tmp_path / "matte.png", inside.astype(np.float32))
    batch = as_batch(tmp_path, Case("ball", "plate.exr", "matte.png", "normal.exr"), 48)
    assert batch.plate.shape == (1, 3, 48, 48)
    solid = batch.matte > 0.99
    mean = (luminance(batch.plate) * batch.matte).sum() / batch.matte.sum()
    assert mean == pytest.approx(MIDDLE, rel=1e-4)
    assert torch.allclose(batch.surface.normal.norm(dim=1)[solid[:, 0]], torch.ones(()), atol=1e-4)
    rows, columns = torch.nonzero(solid[0, 0], as_tuple=True)
    assert abs(float(columns.float().mean()) - 23.5) < 1  # the ball is in the middle
    assert (
        torch.corrcoef(torch.stack([columns.float(), batch.surface.normal[0, 0, rows, columns]]))[0, 1] > 0.95
    )


@pytest.mark.slow
def test_a_run_leaves_a_table_and_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("embreex")
    from platelight.training.raycast import Mix, make_bank

    make_bank(
        tmp_path / "bank", tmp_path, 64, 3, 64, mix=Mix(heads=0.0, figurines=0.1, sculpts=0.4, hard=0.3)
    )
    (tmp_path / "lights").mkdir()
    cv2.imwrite(str(tmp_path / "lights" / "sky.hdr"), np.full((16, 32, 3), 0.7, np.float32))
    line = [
        str(tmp_path / "out"), "--bank", str(tmp_path / "bank"), "--lights", str(tmp_path / "lights"), "--steps", "1",
        "--size", "64", "--only", "light",
    ]  # fmt: skip
    threads = torch.get_num_threads()
    try:
        assert main(line) == 0
    finally:
        torch.set_num_threads(threads)
    shown = capsys.readouterr().out
    assert "| light | attention |" in shown
    assert "| light | pooling |" in shown
    known = json.loads((tmp_path / "out" / "ablations.json").read_text())
    assert known["illum-usual-0"]["held_out"] != known["illum_pooled-usual-0"]["held_out"]
    assert main(line) == 0
    assert shown.endswith(capsys.readouterr().out)
