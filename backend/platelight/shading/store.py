"""Filtered lights on disk, so that the next process that uses a light finds its tables.

A file holds named tensors of one light and one step of its filtering (safetensors: nothing in it can run). Names hold a hash
of the light and one of the code that filters, so that neither can be mistaken. The folder is bounded: what was used least
recently goes first. A cache never stops a render: what cannot be read is made again, what cannot be written is not kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from platelight.images.atomic import atomic_path
from platelight.protocol.errors import PlatelightError

LOG = logging.getLogger(__name__)
LIMIT = 1 << 30
"""Bytes of all files; a light with all its levels takes 174 MB, with the wide ones 30 MB."""
_LULL, _LONGEST = 0.25, 1.0
"""Seconds: a file is written when nothing more was asked for so long, as whoever chooses among lights needs the cores; after a
second in any case."""
_SLACK = 16
"""The folder is looked through after a sixteenth of the limit was written, and emptied by as much more than it must be."""
_CODE = ("brdf", "environment", "irradiance", "lamps", "lobes", "polar", "specular", "tables")


def default_folder() -> Path:
    """``PLATELIGHT_CACHE_DIR`` where set, else the platform's usual place; nothing is made."""
    override = os.environ.get("PLATELIGHT_CACHE_DIR")
    if override:
        return Path(override) / "lights"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local")))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "platelight" / "lights"


@functools.cache
def code_digest() -> str:
    """A hash of the modules that filter: tables of other code are other tables."""
    found = hashlib.blake2b(digest_size=8)
    for name in _CODE:
        found.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return found.hexdigest()


@functools.cache
def _writer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "platelight-lights")


# A forked child has none of its parent's threads; Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writer.cache_clear)


@functools.cache
def default() -> Store:
    """The user's store."""
    return Store(default_folder())


class Store:
    """Named tensors in a folder of at most ``limit`` bytes. Safe for several processes at once."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit
        self._asked = 0.0  # when something was last to be saved
        self._spare = 0  # bytes that may be written before the folder is looked through

    def load(self, name: str, device: torch.device) -> dict[str, Tensor] | None:
        """What was saved under a name, or None."""
        path = self._path(name)
        try:
            if not path.exists():
                return None
            found: dict[str, Tensor] = load_file(path, str(device))
            os.utime(path)
        except (OSError, SafetensorError) as error:
            LOG.warning("the kept light %s cannot be read and is made again: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return found

    def save(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors, which stay as they are, under a name, and drop what then is too much; a thread does it, soon."""
        self._asked = time.monotonic()
        _writer().submit(self._save, name, tensors, self._asked)

    @staticmethod
    def flush() -> None:
        """Wait until all that was saved is on disk; the end of the process waits too."""
        _writer().submit(lambda: None).result()

    def _save(self, name: str, tensors: dict[str, Tensor], asked: float) -> None:
        while (wait := min(self._asked + _LULL, asked + _LONGEST) - time.monotonic()) > 0.0:
            time.sleep(wait)
        try:
            with atomic_path(self._path(name)) as temporary:
                save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, temporary)
            self._spare -= sum(value.nbytes for value in tensors.values())
            if self._spare < 0:
                self._spare = self._prune()
        except (PlatelightError, OSError, SafetensorError) as error:
            LOG.warning("a filtered light could not be kept: %s", error)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}-{code_digest()}.safetensors"

    def _prune(self) -> int:
        """Drop what was used least recently where there is more than the limit; bytes until the next look."""
        files = []
        for path in self.folder.glob("*.safetensors"):
            # Another process may drop it first.
            with contextlib.suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total, slack = sum(size for _, size, _ in files), self.limit // _SLACK
        if total > self.limit - slack:
            for _, size, path in sorted(files):
                if total <= self.limit - slack:
                    break
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= size
        return slack
