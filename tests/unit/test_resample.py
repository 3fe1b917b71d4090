"""Between the plate's resolution and the networks': windows, fusion of scales, tiles, soft rims, guided upsampling."""

from __future__ import annotations

import itertools

import torch
from platelight.pipeline.networks import with_detail
from platelight.pipeline.resample import (
    Window,
    fitted,
    from_solid,
    fuse,
    group_side,
    guided_upsample,
    in_tiles,
    padded,
    resize,
    spans,
    subject_window,
)


def test_window_padding_and_sizes() -> None:
    matte = torch.zeros(1, 1, 50, 60)
    matte[..., 10:20, 30:50] = 1
    window = subject_window(matte)
    assert window.top <= 10
    assert window.left <= 30
    assert window.top + window.height >= 20
    image = torch.rand(1, 3, 50, 60)
    assert torch.equal(window.paste(window.cut(image), image), image)
    assert subject_window(matte * 0) == Window(0, 0, 50, 60)
    assert padded(image).shape[-2:] == (64, 64)
    assert fitted((1000, 500), 256) == (256, 128)
    assert fitted((10, 5), 256) == (10, 5)


def test_fusion_takes_form_from_one_and_detail_from_the_other() -> None:
    x = torch.linspace(0, 1, 128)
    slow = x[None, :].expand(128, 128)[None, None]
    fast = torch.sin(x * 300)[None, :].expand(128, 128)[None, None] * 0.1
    fused = fuse(resize(slow, (32, 32)), slow * 0 + fast, 32)
    assert float((fused - slow - fast).abs().mean()) < 0.02


def test_fusion_believes_of_the_fine_pass_only_what_is_finer_than_the_cut() -> None:
    x = torch.linspace(0, 1, 256)
    wave = torch.sin(x * 2 * torch.pi * 4)[None, :].expand(256, 256)[None, None]  # 64 pixels a period
    nothing = torch.zeros(1, 1, 64, 64)
    assert float(fuse(nothing, wave, 64).abs().mean()) < 0.05
    assert float(fuse(nothing, wave, 4).abs().mean()) > 0.4


def test_tiles_cover_and_overlap() -> None:
    for length in (1, 100, 101, 137, 1000):
        tiles = spans(length, 100, 20)
        assert tiles[0][0] == 0
        assert tiles[-1][1] == length
        assert all(end - start == min(100, length) for start, end in tiles)
        assert all(a[1] - b[0] >= 19 for a, b in itertools.pairwise(tiles))
        assert len(tiles) <= 1 + length // 79


def test_tiles_leave_no_seam_and_meet_the_network_padded() -> None:
    image = torch.rand(1, 2, 150, 230)
    sizes = []

    def run(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(a.shape[-2:]))
        return a * 2 + b

    out = in_tiles(run, 64, 16, image, image)
    torch.testing.assert_close(out, image * 3)
    assert set(sizes) == {(64, 64)}
    assert len(sizes) == 3 * 5


def test_a_soft_rim_has_what_is_solid_beside_it() -> None:
    across = torch.linspace(0, 1, 200).expand(1, 1, 60, 200)
    matte = ((across - 0.3) / 0.02).clamp(0, 1)  # empty, a rim of four pixels, solid
    field = torch.where(matte > 0.5, across, torch.full_like(across, 5.0))
    found = from_solid(field, matte)
    rim, solid = (matte > 0) & (matte < 0.5), matte == 1
    assert float((found - across)[rim].abs().max()) < 0.1
    assert torch.equal(found[solid], field[solid])
    thin = 0.4 * (across > 0.6)  # nothing solid anywhere
    assert torch.equal(from_solid(field, thin), field)


def test_guided_upsampling_follows_the_guide() -> None:
    guide = torch.zeros(1, 1, 64, 64)
    guide[..., 30:] = 1.0
    values = resize(guide, (16, 16)) * 2 + 1
    up = guided_upsample(values, resize(guide, (16, 16)), guide, torch.ones(1, 1, 16, 16))
    plain = resize(values, (64, 64))
    truth = guide * 2 + 1
    assert float((up - truth).abs().mean()) < 0.5 * float((plain - truth).abs().mean())


def test_dust_in_a_corner_does_not_widen_the_window() -> None:
    matte = torch.zeros(1, 1, 300, 400)
    matte[..., 100:200, 120:220] = 1.0
    matte[..., 150, 220:240] = 0.1  # a strand that hangs on the subject
    clean = subject_window(matte)
    assert clean.left + clean.width >= 240
    matte[..., 3, 390] = 0.03
    assert subject_window(matte) == clean
    matte[..., 3:9, 380:390] = 0.9  # a part of the subject, small as it is
    assert subject_window(matte).top == 0
    huge = torch.nn.functional.interpolate(matte, scale_factor=8.0)
    wide, small = subject_window(huge), subject_window(matte)
    assert abs(wide.left / 8 - small.left) < 2
    assert abs(wide.height / 8 - small.height) < 2


def test_passes_are_fused_without_what_lies_beyond_the_rim() -> None:
    """A network says nothing true off the subject; blurred in, that would darken or brighten the rim."""
    y, x = torch.meshgrid(torch.arange(400.0), torch.arange(400.0), indexing="ij")
    matte = ((x - 200) ** 2 + (y - 200) ** 2 < 120**2).float()[None, None]
    plate = matte.expand(-1, 3, -1, -1) * 0.5

    def run(p: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return torch.where(
            m > 0.5, 1.0, torch.where(m > 0, -3.0, 0.0)
        )  # wrong where it is thin, nothing outside

    coarse = run(resize(plate, (160, 160)), resize(matte, (160, 160)))
    field = with_detail(coarse, run, 400, plate, matte)
    torch.testing.assert_close(field[matte > 0.5], torch.ones(int(matte.sum())), atol=0.02, rtol=0)


def test_a_row_of_people_is_read_as_large_as_one() -> None:
    assert group_side((300, 200), 160) == 160
    assert group_side((200, 300), 160) == 160
    three = fitted((400, 1200), group_side((400, 1200), 160))
    assert 0.95 < three[0] * three[1] / (160 * 160 / 1.5) < 1.05
    assert group_side((10, 10_000), 160) < 160 * 2.5
