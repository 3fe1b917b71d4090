"""Imported once by the process that workers are forked from: loads what all of them need (torch, say)."""

from __future__ import annotations

import contextlib
import importlib
import os

from platelight.server.worker import JOB_VARIABLE

with contextlib.suppress(Exception):  # a worker that cannot import it either says why
    importlib.import_module(os.environ.get(JOB_VARIABLE, "").partition(":")[0])
