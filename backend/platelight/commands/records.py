"""What a frame's outputs were made from: a small record beside them, by which a batch knows what is done.

``<folder>/.platelight/<stem>.<command>.json`` is written last, after the outputs are whole, and says nothing that
differs between two runs: a batch that was killed and resumed leaves the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from platelight import __version__
from platelight.images.atomic import write_bytes
from platelight.protocol.errors import InputError

FORMAT = 1
HIDDEN = ".platelight"
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


class Input(msgspec.Struct, frozen=True):
    """A file that was read: its part in the work, its name, and its content by sha256.

    Size and time of change spare the reading: while they are the same, so is the content.
    """

    role: str
    name: str
    size: int
    changed: int
    sha256: str


class Output(msgspec.Struct, frozen=True):
    """A file that was made."""

    name: str
    size: int
    sha256: str


class Record(msgspec.Struct, frozen=True):
    """All of one frame. ``key`` is the hash of settings, models and the inputs' contents."""

    format: int
    key: str
    shape: tuple[int, int]
    inputs: list[Input]
    outputs: list[Output]


def sha256(path: Path) -> str:
    """The content's sha256, hexadecimal.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.", "Check the path.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).", "Check its permissions.") from error


def shipped_models() -> dict[str, str]:
    """Names and sha256 of the weights of this installation, without loading torch.

    The manifest is what the registry holds the weights against; a network that it does not name is hashed.
    """
    manifest = WEIGHTS / "manifest.json"
    known: dict[str, str] = json.loads(manifest.read_text()) if manifest.is_file() else {}
    files = {path.stem: path for kind in ("*.safetensors", "*.tflite") for path in WEIGHTS.glob(kind)}
    return {name: known.get(name) or sha256(path) for name, path in sorted(files.items())}


@dataclass
class Ledger:
    """The records of one command in one folder.

    ``settings`` is everything beside the inputs' contents on which the outputs depend: requests, models, options.
    """

    folder: Path
    command: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._hashed: dict[tuple[Path, int, int], str] = {}

    def path(self, stem: str) -> Path:
        """Where a frame's record is."""
        return self.folder / HIDDEN / f"{stem}.{self.command}.json"

    def key(self, stem: str, inputs: Iterable[Input], extra: Mapping[str, Any]) -> str:
        """The hash by which a frame's outputs are known."""
        said = {
            "format": FORMAT, "platelight": __version__, "command": self.command, "stem": stem,
            "settings": self.settings, "extra": extra,
            "inputs": [[one.role, one.name, one.sha256] for one in inputs],
        }  # fmt: skip
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()

    def look(self, files: Iterable[tuple[str, Path]], known: Iterable[Input] = ()) -> list[Input]:
        """Files by role as inputs; those unchanged since ``known``, or since they were last seen, are not read."""
        before = {(one.role, one.name, one.size, one.changed): one.sha256 for one in known}
        seen = []
        for role, path in files:
            try:
                stat = path.stat()
            except OSError as error:
                raise InputError(f"{path}: no such file.", "Check the path.") from error
            content = before.get((role, path.name, stat.st_size, stat.st_mtime_ns))
            place = (path, stat.st_size, stat.st_mtime_ns)
            if content is None:
                content = self._hashed.get(place) or sha256(path)
                self._hashed[place] = content  # a light or a movie serves all frames
            seen.append(Input(role, path.name, stat.st_size, stat.st_mtime_ns, content))
        return seen

    def done(self, stem: str, files: Iterable[tuple[str, Path]], extra: Mapping[str, Any]) -> Record | None:
        """The record of a frame whose outputs are here and were made from these very inputs and settings."""
        path = self.path(stem)
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
            written = path.stat().st_mtime_ns
            if record.format != FORMAT:
                return None
            if record.key != self.key(stem, self.look(files, record.inputs), extra):
                return None
            for output in record.outputs:
                file = self.folder / output.name
                stat = file.stat()
                if stat.st_size != output.size:
                    return None
                # The record is written after its outputs: one changed later was touched by somebody else.
                if stat.st_mtime_ns > written and sha256(file) != output.sha256:
                    return None
        except (OSError, msgspec.MsgspecError, InputError):
            return None
        return record

    def note(
        self,
        stem: str,
        inputs: list[Input],
        extra: Mapping[str, Any],
        shape: tuple[int, int],
        made: Iterable[Path],
    ) -> None:
        """Write the record of a frame, its outputs being whole."""
        outputs = [Output(file.name, file.stat().st_size, sha256(file)) for file in made]
        record = Record(FORMAT, self.key(stem, inputs, extra), shape, inputs, outputs)
        write_bytes(self.path(stem), msgspec.json.encode(record))

    def sweep(self, stems: Iterable[str]) -> None:
        """Remove what a killed run left half-written of these frames: nobody else may be writing them now."""
        wanted = set(stems)
        wanted |= {stem.removesuffix(".maps") for stem in wanted}  # outputs of maps are not named maps
        for folder in (self.folder, self.folder / HIDDEN):
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder):
                name = entry.name
                if not name.startswith(".") or ".part." not in name:
                    continue
                # .<stem>.<kind>.<pid>-<token>.part.<suffix>
                own = name[1:].rsplit(".", 3)[0]
                if own.rpartition(".")[0] in wanted or own in wanted:
                    Path(entry.path).unlink(missing_ok=True)
