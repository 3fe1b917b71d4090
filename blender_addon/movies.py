"""Frames of movies, decoded by a second Blender in the background. No bpy module use: jobs call this in their threads.

Blender decodes a frame on its main thread only, 0.2 s of it at 4K; a process of its own leaves the interface free.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .wire import InputError

_WORKER = Path(__file__).with_name("movie_worker.py")
_MARK = "PLATELIGHT "
_START, _FRAME = 180.0, 120.0  # seconds that starting, and a frame, may take at most


class Frame(NamedTuple):
    """One frame: ``codes`` (H, W, 4), row 0 at the top, uint8 in ``space`` or linear float32."""

    codes: Any
    space: str
    has_alpha: bool


class MovieReader:
    """The second Blender: started with the first frame, ended by ``close``, by its idleness or with this process."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read(self, path: Path, frame: int, space: str = "auto") -> Frame:
        """Decode frame ``frame`` of a movie, counted from 1.

        Raises:
            InputError: no movie that Blender reads, no such frame, or the second Blender does not answer.
        """
        if not path.is_file():
            raise InputError(f"{path} is not a file.", "Choose a movie that exists.")
        with (
            self._lock,
            tempfile.TemporaryDirectory(prefix="platelight-", ignore_cleanup_errors=True) as folder,
        ):
            out = Path(folder) / "frame.npy"
            said = self._ask({"path": str(path), "frame": frame, "space": space, "out": str(out)}, path)
            if "error" in said:
                raise InputError(
                    f"{path} {said['error']}.", "Set the plate's frames, or export the movie again."
                )
            codes = np.load(out, allow_pickle=False)[::-1]
        return Frame(np.ascontiguousarray(codes), str(said["space"]), bool(said["alpha"]))

    def close(self) -> None:
        """End the second Blender for good; a frame being decoded is given up."""
        self._closed = True
        self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(5.0)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def _ask(self, request: dict[str, Any], path: Path) -> dict[str, Any]:
        for _ in range(2):  # once more where it ended for idleness between two looks
            if self._closed:
                break
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                return self._answer(_FRAME)
            except (OSError, ValueError, EOFError):
                self._kill()
        raise InputError(f"{path} could not be decoded.", "Export it again, or as frames.")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        self._lines = queue.SimpleQueue()
        self._process = process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=sys.platform != "win32",
        )
        threading.Thread(target=_pump, args=(process, self._lines), daemon=True).start()
        self._answer(_START)
        return process

    def _answer(self, timeout: float) -> dict[str, Any]:
        """The next answer; Blender's own lines are passed over.

        Raises:
            EOFError: the process ended, or did not answer in time.
        """
        lines = self._lines
        while True:
            try:
                line = lines.get(timeout=timeout)
            except queue.Empty as error:
                raise EOFError from error
            if line is None:
                raise EOFError
            if line.startswith(_MARK):
                found: dict[str, Any] = json.loads(line.removeprefix(_MARK))
                return found


def _pump(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    with contextlib.suppress(OSError, ValueError):
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def command(binary: str) -> list[str]:
    """How the second Blender is started: ``binary`` is this Blender's program, "" where bpy is a Python module."""
    if binary:
        return [binary, "--background", "--factory-startup", "--python", str(_WORKER)]
    return [sys.executable, str(_WORKER)]
