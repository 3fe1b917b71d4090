"""What runs on each device of a Ray cluster: an actor that loads the networks once and works chunk after chunk."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from platelight import __version__
from platelight.commands.records import shipped_models
from platelight.protocol.errors import PlatelightError


def identity() -> dict[str, Any]:
    """What must be the same on every machine."""
    return {"platelight": __version__, "weights": shipped_models()}


@dataclass(frozen=True)
class Done:
    """What became of a chunk: the command's exit code, its ``--report``, and what it said on standard error."""

    code: int
    report: dict[str, Any]
    words: str


class Worker:
    """An actor's state.

    Args:
        device, threads: those of its slot.
        folder: the driver's working folder, which all machines share.
        same: what :func:`identity` must answer here as it did there.
    """

    def __init__(self, device: str, threads: int | None, folder: str, same: dict[str, Any]) -> None:
        self.device, self.threads, self.folder, self.same = device, threads, folder, same

    def work(self, target: str, parsed: argparse.Namespace) -> Done:
        """Carry out a command, ``module:function``, on one chunk.

        Raises:
            RuntimeError: Platelight or its weights are others here than at the driver.
            OSError: this machine does not see the driver's folder.
        """
        if identity() != self.same:
            raise RuntimeError(f"Platelight {__version__} or its weights differ from those of the driver")
        os.chdir(self.folder)
        words = io.StringIO()
        with tempfile.TemporaryDirectory(prefix="platelight-ray-") as scratch:
            report = Path(scratch) / "report.json"
            own = {"device": self.device, "threads": self.threads, "report": str(report), "progress": "lines"}
            parsed = argparse.Namespace(**{**vars(parsed), **own})
            module, _, name = target.partition(":")
            with contextlib.redirect_stderr(words):
                try:
                    code = int(getattr(import_module(module), name)(parsed))
                except PlatelightError as error:
                    print(f"platelight: {error}", file=words)
                    code = error.exit_code
            told = json.loads(report.read_text()) if report.is_file() else {}
        return Done(code, told, words.getvalue())
