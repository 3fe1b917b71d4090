"""What runs on CUDA compiled gives what it gives uncompiled: measured on the processor, for which the same code compiles."""

from __future__ import annotations

import logging
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from platelight.shading import environment, fused, integrate, surface
from shading_scenes import perspective_sphere


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="torch.compile needs a C++ compiler and Python's headers on processors",
)
def test_compiled_shading_gives_the_same() -> None:
    env = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(3))
    env[..., 5, 9] = 40.0
    found = integrate.prefilter(env)
    with torch.inference_mode():
        for size, roughness in ((24, 0.15), (31, 0.5), (40, 0.5)):
            normal, view, _ = perspective_sphere(size, 40.0, 3.3)
            one = torch.ones_like(normal[:, :1])
            picture = integrate.pictures(normal, 0.5 * one, roughness * one, 0.04 * one, view, layered=True)[
                0
            ]
            (flat,) = picture.chunks
            assert not isinstance(flat, surface.Surface)
            plain = surface.find(picture.levels, True, *flat)
            quick = fused.compiled(surface.find)(picture.levels, True, *flat)
            assert torch.allclose(quick.paint, plain.paint, rtol=1e-5, atol=1e-6)
            rows, dim = found.specular[0].rows(*picture.levels), torch.zeros(6, flat[0].shape[1])
            closed = environment.closed(found.diffuse)
            expected = surface.light(plain, closed, rows, dim)
            got = fused.compiled(surface.light)(quick, closed, rows, dim)
            assert got.shape == dim.shape
            assert float((got - expected).abs().max() / expected.abs().max()) < 1e-4


def test_what_does_not_compile_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    def fails(_function: object) -> object:
        raise RuntimeError("Cannot find a working triton installation\nand more")

    monkeypatch.setattr(fused, "compiled", fails)
    cuda, one = torch.device("cuda"), torch.ones(1)
    assert fused.on(torch.device("cpu"), double) is double
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        assert [float(fused.on(cuda, double)(one)) for _ in range(2)] == [2.0, 2.0]
    assert caplog.text.count("shading runs uncompiled: Cannot find a working triton installation") == 1


def test_gradients_are_taken_uncompiled() -> None:
    assert fused.on(torch.device("cuda"), abs) is abs
