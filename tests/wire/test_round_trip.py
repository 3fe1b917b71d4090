"""A client, a broker and a worker process, with CURVE between them."""

from __future__ import annotations

import numpy as np
import pytest
import toys
from conftest import Server
from platelight.protocol.errors import InputError, JobFailed, NoSubjectError, ProtocolError, UnknownJob
from platelight.protocol.requests import Decompose, Refine, Relight

SMALL = {"plate": np.linspace(-1.0, 70000.0, 7 * 5 * 3, dtype=np.float32).reshape(7, 5, 3)}


def test_4k_planes_come_back_bit_exact(shared_server: Server) -> None:
    rng = np.random.default_rng(1)
    plate = rng.standard_normal((2160, 3840, 3), dtype=np.float32).astype(np.float16)
    matte = rng.random((216, 384), dtype=np.float32)
    seen: list[tuple[float, str]] = []
    with shared_server.client() as client:
        result = client.run(
            Decompose(fov=toys.DOUBLE),
            {"plate": plate, "matte": matte},
            progress=lambda fraction, stage: seen.append((fraction, stage)),
            timeout=120,
        )
    assert set(result.planes) == {"plate_twice", "matte_twice"}
    np.testing.assert_array_equal(result.planes["plate_twice"], plate * np.float16(2))
    np.testing.assert_array_equal(result.planes["matte_twice"], matte * 2)
    assert result.planes["plate_twice"].dtype == np.float16
    assert result.planes["matte_twice"].flags.writeable
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)
    assert seen[-1] == (1.0, "receiving")
    assert seen[0][1] == "sending"


@pytest.mark.parametrize("request_type", [Decompose, Relight, Refine])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4, 1), (2, 3, 3), (5, 2, 4), (700, 513, 3)])
def test_every_request_and_shape(
    shared_server: Server, request_type: type[Decompose | Relight | Refine], shape: tuple[int, ...]
) -> None:
    plane = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    with shared_server.client() as client:
        result = client.run(request_type(fov=toys.DOUBLE), {"plate": plane}, timeout=30)
    np.testing.assert_array_equal(result.planes["plate_twice"], plane * 2)
    assert result.meta == {"kind": request_type.__name__, "shapes": {"plate": list(shape)}, "lean": False}


def test_non_finite_pixels_travel_unchanged(shared_server: Server) -> None:
    plane = np.array([[np.nan, np.inf], [-np.inf, -0.0]], dtype=np.float32)
    with shared_server.client() as client:
        result = client.run(Decompose(fov=toys.DOUBLE), {"plate": plane}, timeout=30)
    np.testing.assert_array_equal(result.planes["plate_twice"].view(np.uint32), plane.view(np.uint32))


def test_planes_of_equal_bytes_are_separate_arrays(shared_server: Server) -> None:
    plane = np.ones((4, 4), dtype=np.float32)
    with shared_server.client() as client:
        result = client.run(Decompose(fov=toys.DOUBLE), {"plate": plane, "matte": plane.copy()}, timeout=30)
    result.planes["plate_twice"][:] = 7
    np.testing.assert_array_equal(result.planes["matte_twice"], plane * 2)


def test_big_endian_and_strided_planes_are_taken(shared_server: Server) -> None:
    plane = np.arange(24, dtype=">f4").reshape(4, 6)[:, ::2]
    with shared_server.client() as client:
        result = client.run(Decompose(fov=toys.DOUBLE), {"plate": plane}, timeout=30)
    np.testing.assert_array_equal(result.planes["plate_twice"], plane.astype("<f4") * 2)


@pytest.mark.parametrize(
    ("plane", "sentence"),
    [
        (np.zeros((2, 2), np.uint8), "The plane 'plate' holds uint8, not half or float."),
        (np.zeros((2, 2), np.float64), "The plane 'plate' holds float64, not half or float."),
        (np.zeros((0, 2), np.float32), "The plane 'plate' has the shape (0, 2)."),
        (np.zeros(3, np.float32), "The plane 'plate' has the shape (3,)."),
        (np.zeros((2, 2, 2), np.float32), "The plane 'plate' has 2 channels."),
        (np.zeros((2, 2, 5), np.float32), "The plane 'plate' has 5 channels."),
    ],
)
def test_bad_planes_are_refused_by_name(shared_server: Server, plane: np.ndarray, sentence: str) -> None:
    with shared_server.client() as client, pytest.raises(InputError) as error:
        client.run(Decompose(), {"plate": plane})
    assert error.value.sentence == sentence


def test_too_large_a_side_is_refused(shared_server: Server) -> None:
    with shared_server.client() as client, pytest.raises(InputError, match="'plate' of shape"):
        client.run(Decompose(), {"plate": np.zeros((1, 16385), np.float32)})


def test_typed_errors_come_through(shared_server: Server) -> None:
    with shared_server.client() as client, pytest.raises(NoSubjectError) as error:
        client.run(Decompose(fov=toys.TYPED), SMALL, timeout=30)
    assert error.value.sentence == "No subject was found in the plate."
    assert error.value.remedy == "Give a matte."
    assert error.value.exit_code == 2


def test_other_errors_are_told_and_logged_with_traceback(shared_server: Server) -> None:
    with shared_server.client() as client:
        with pytest.raises(JobFailed, match="RuntimeError: the toy broke"):
            client.run(Decompose(fov=toys.FAIL), SMALL, timeout=30)
        client.run(Decompose(fov=toys.DOUBLE), SMALL, timeout=30)
    assert "Traceback" in shared_server.log


def test_meta_that_is_too_long_is_an_error_of_the_job(shared_server: Server) -> None:
    with shared_server.client() as client, pytest.raises(ProtocolError, match="meta has"):
        client.run(Decompose(fov=toys.BAD_META), SMALL, timeout=30)


def test_submit_is_idempotent_and_a_second_connection_can_fetch(shared_server: Server) -> None:
    plane = {"plate": np.full((9, 9), 3.5, np.float32)}
    with shared_server.client() as client:
        first = client.run(Decompose(fov=toys.COUNT), plane, timeout=30)
        again = client.run(Decompose(fov=toys.COUNT), plane, timeout=30)
    with shared_server.client() as second:
        fetched = second.result(first.key, timeout=30)
    assert first.key == again.key == fetched.key
    assert len(shared_server.runs(toys.COUNT)) == 1
    for result in (first, again, fetched):
        np.testing.assert_array_equal(result.planes["plate_twice"], plane["plate"] * 2)


def test_an_unknown_job_is_not_a_running_one(shared_server: Server) -> None:
    with shared_server.client() as client, pytest.raises(UnknownJob):
        client.result("0" * 64, timeout=10)


def test_status(shared_server: Server) -> None:
    with shared_server.client() as client:
        client.run(Decompose(fov=toys.DOUBLE), SMALL, timeout=30)
        report = client.status()
    assert {worker.state for worker in report.workers} <= {"idle", "starting"}
    assert all(worker.pid for worker in report.workers if worker.state == "idle")
    assert report.totals.done >= 1
    assert report.rates.job_seconds > 0
    assert report.jobs["done"] >= 1
    assert report.memory > 10 * 2**20
    assert report.stored > 0
    assert report.clients >= 1
