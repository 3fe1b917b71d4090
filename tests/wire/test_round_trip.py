"""A client, a broker and a worker process, with CURVE between them."""

from __future__ import annotations

import numpy as np
import toys
from conftest import Server

from platelight.protocol.requests import Decompose


def test_round_trip_is_bit_exact_at_4k(shared_server: Server) -> None:
    rng = np.random.default_rng(1)
    plate = rng.standard_normal((2160, 3840, 3), dtype=np.float32)
    matte = rng.random((2160, 3840), dtype=np.float32).astype(np.float16)
    seen: list[tuple[float, str]] = []
    with shared_server.client() as client:
        result = client.run(
            Decompose(fov=toys.DOUBLE),
            {"plate": plate, "matte": matte},
            progress=lambda fraction, stage: seen.append((fraction, stage)),
            timeout=60,
        )
    assert set(result.planes) == {"plate_twice", "matte_twice"}
    np.testing.assert_array_equal(result.planes["plate_twice"], plate * 2)
    np.testing.assert_array_equal(result.planes["matte_twice"], matte * np.float16(2))
    assert result.planes["matte_twice"].dtype == np.float16
    assert result.meta["kind"] == "Decompose"
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)
    assert seen[-1][0] == 1.0
    assert {"sending", "receiving"} <= {stage for _, stage in seen}
