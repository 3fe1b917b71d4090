"""Logs of the server and its workers: text for people or one JSON object a line for programs, with the job's key.

A record names its job by ``extra={"job": key}``. Only keys and sizes are logged, never pixels or secrets.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

FORMATS = ("text", "json")


class TextFormatter(logging.Formatter):
    """``time level process: job 0123456789ab: message``."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process}: %(job_prefix)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        job = getattr(record, "job", "")
        record.job_prefix = f"job {job[:12]}: " if job else ""
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, process, logger, message, and job and traceback where there are."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if job := getattr(record, "job", ""):
            content["job"] = job
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content)


def start_logging(style: str, process: str) -> None:
    """Send this process's log to standard error. Call from an entry point only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if style == "json" else TextFormatter(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
