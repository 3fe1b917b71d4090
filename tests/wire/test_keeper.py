"""A worker stores planes while the rest of the job is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import toys
from conftest import Server, wait_for
from platelight.protocol.errors import JobFailed
from platelight.protocol.frames import describe
from platelight.protocol.requests import Decompose
from platelight.server.blobs import BlobFolder
from platelight.server.worker import Keeper

PLANE = np.arange(600, dtype=np.float32).reshape(20, 30)


def test_a_plane_is_stored_before_the_rest_is_there(tmp_path: Path) -> None:
    blobs, hash = BlobFolder(tmp_path), describe("early", PLANE).info.hash
    with Keeper(blobs) as keeper:
        keeper.begin("early", PLANE)
        wait_for(lambda: blobs.has(hash, PLANE.nbytes))
        late = PLANE + 1
        first, second = keeper.keep({"late": late, "early": PLANE})
    assert (first, second) == (describe("late", late).info, describe("early", PLANE).info)
    assert blobs.intact(first.hash)


def test_only_the_result_counts(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path)
    with Keeper(blobs) as keeper:
        keeper.begin("normal", PLANE)  # of an attempt that ran out of memory, say
        keeper.begin("matte", PLANE)
        other = PLANE * 2
        stored = keeper.keep({"normal": other})
    assert [one.hash for one in stored] == [describe("normal", other).info.hash]
    assert blobs.intact(stored[0].hash)


def test_early_planes_reach_the_client_and_those_of_a_failed_job_do_not(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    with server.client() as client:
        result = client.run(Decompose(fov=toys.EARLY), {"plate": PLANE}, timeout=30)
        np.testing.assert_array_equal(result.planes["early"], PLANE + 1)
        np.testing.assert_array_equal(result.planes["late"], PLANE + 2)
        assert list(result.planes) == ["early", "late"]
        with pytest.raises(JobFailed):
            client.run(Decompose(fov=toys.EARLY), {"plate": PLANE, "matte": PLANE}, timeout=30)
        assert client.status().jobs["failed"] == 1
        np.testing.assert_array_equal(client.result(result.key, timeout=10).planes["early"], PLANE + 1)
