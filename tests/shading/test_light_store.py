"""Tables of a light on disk: read back by the next process, remade when spoiled, bounded, and never in the way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from platelight.shading import integrate, tables
from platelight.shading.store import Store
from torch import Tensor


def render(store: Store | None, seed: int = 1, degrees: float = 0.0) -> Tensor:
    """Specular of a few pixels, by a process that knows no light yet."""
    integrate._cache.clear()
    env = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(seed))
    normal = torch.nn.functional.normalize(torch.tensor([[0.3, 0.0], [0.2, 0.5], [1.0, 0.7]]), dim=0)[
        None, :, None
    ]
    one = torch.ones(1, 1, 1, 2)
    light = integrate.prefilter(env, store).rotated(degrees)
    found = integrate.shade(light, normal, one, 0.8 * one, 0.04 * one, integrate.view_directions(1, 2, 30.0))
    Store.flush()
    return found.specular


def test_the_next_process_reads_what_one_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "lights")
    made = render(store)
    assert len(list((tmp_path / "lights").iterdir())) == 2
    assert torch.equal(made, render(None))
    other = render(store, seed=2)
    turned = render(store, degrees=90.0)

    def refuse(*_: object) -> Tensor:
        raise AssertionError("a kept level was made again")

    monkeypatch.setattr(tables, "raw", refuse)
    assert torch.equal(render(store), made)
    assert torch.equal(render(store, seed=2), other)
    assert not torch.equal(other, made)
    assert not torch.equal(turned, made)


def test_a_spoiled_file_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    made = render(store)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(render(store), made)
    assert "cannot be read" in caplog.text
    caplog.clear()
    assert torch.equal(render(store), made)
    assert not caplog.text


def test_the_folder_is_bounded_and_the_last_used_stay(tmp_path: Path) -> None:
    render(Store(tmp_path))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    first = {path.name for path in tmp_path.iterdir()}
    limit = 5 * size // 2
    store = Store(tmp_path, limit)
    render(store, seed=2)
    second = {path.name for path in tmp_path.iterdir()} - first
    render(store)
    render(store, seed=3)
    left = {path.name for path in tmp_path.iterdir()}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    assert first <= left
    assert not second & left


def test_a_folder_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lights").write_text("a file")
    assert torch.equal(render(Store(tmp_path / "lights")), render(None))
    assert "could not be kept" in caplog.text


def test_files_are_written_when_nobody_asks_for_more(tmp_path: Path) -> None:
    store, began = Store(tmp_path), time.monotonic()
    for k in range(20):
        store.save(f"a-{k}", {"table": torch.ones(4)})
        time.sleep(0.01)
    assert time.monotonic() - began > 1.0 or not list(tmp_path.iterdir())
    Store.flush()
    assert len(list(tmp_path.glob("*.safetensors"))) == 20
