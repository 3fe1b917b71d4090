"""For all tests: what the program keeps between runs stays out of the user's folders."""

from __future__ import annotations

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="platelight-tests-")
# Also for the processes that tests start.
os.environ["PLATELIGHT_CACHE_DIR"] = _cache.name
