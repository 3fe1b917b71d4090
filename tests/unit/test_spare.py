"""Memory of large maps is used again when nobody reads them any more, and never before."""

from __future__ import annotations

import numpy as np
import torch
from platelight.pipeline.room import GIB, Room
from platelight.pipeline.spare import LEAST, SPARE, Spare

SHAPE = (LEAST // 64, 4, 4)  # of floats: just large enough


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_a_large_map_takes_the_place_of_one_that_is_gone() -> None:
    spare = Spare()
    first = spare.empty(SHAPE, np.float32)
    assert first.shape == SHAPE
    assert first.dtype == np.float32
    assert first.flags.writeable
    place = address(first)
    other = spare.empty(SHAPE, np.float32)
    assert address(other) != place
    assert spare.held() == 0
    del first
    assert spare.held() == LEAST
    again = spare.empty((LEAST // 32, 4, 4), np.float16)  # of as many bytes
    assert address(again) == place
    assert spare.held() == 0


def test_memory_that_a_view_or_a_tensor_reads_stays() -> None:
    spare = Spare()
    whole = spare.empty(SHAPE, np.float32)
    whole[-1] = 7.0
    row = whole[-1:, 1].T
    del whole
    assert spare.held() == 0
    tensor = torch.from_numpy(row).flatten()
    del row
    assert spare.held() == 0
    other = spare.empty(SHAPE, np.float32)
    other.fill(1.0)
    assert (tensor == 7.0).all()
    del tensor
    assert spare.held() == LEAST


def test_what_is_kept_is_bounded_and_the_oldest_goes() -> None:
    spare = Spare(most=2 * LEAST)
    maps = [spare.empty((LEAST + k,), np.uint8) for k in (2, 1, 0)]
    newest = address(maps[2])
    while maps:
        maps.pop(0)
    assert spare.held() == LEAST  # with the one of a byte more it would be too much
    assert address(spare.empty((LEAST,), np.uint8)) == newest
    small = spare.empty((8, 8), np.float32)
    del small
    assert spare.held() <= 2 * LEAST
    spare.clear()
    assert spare.held() == 0


def test_nothing_is_kept_where_memory_is_bounded() -> None:
    SPARE.clear()
    for room in (Room(GIB * 100), Room(lean=True)):
        room.array(SHAPE, np.float32).fill(0.0)
        assert SPARE.held() == 0
    Room().array(SHAPE, np.float32).fill(0.0)
    assert SPARE.held() == LEAST
    SPARE.clear()
