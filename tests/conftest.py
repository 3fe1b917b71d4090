"""For all tests: what the program keeps between runs stays out of the user's folders."""

from __future__ import annotations

import os
import tempfile

import pytest

_cache = tempfile.TemporaryDirectory(prefix="platelight-tests-")
# Also for the processes that tests start.
os.environ["PLATELIGHT_CACHE_DIR"] = _cache.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: of two workers that take file after file one would else wait for the other's last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
