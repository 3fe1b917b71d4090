"""Shards of the light stage in any store that fsspec reaches: a folder, ``memory://``, ``http://``, ``s3://``.

A store holds ``manifest.json`` (format, lamps, settings, versions, licenses), ``index.json`` (names of the shards that
are whole) and one ``subject-NNNNNN.st.zst`` a subject: safetensors, compressed by Zstandard with a checksum. Of the
lamps' pictures only pixels that the subject covers are kept, as half floats rounded to eight bits of mantissa
(0.2 % at most), low and high bytes apart, which compresses better.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import zstandard
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError
from safetensors.numpy import load, save

from platelight.images.atomic import write_bytes
from platelight.protocol.errors import InputError, PlatelightError

Array = npt.NDArray[Any]
FORMAT = 2  # since 2 without most of path tracing's noise
MAX_SHARD = 1 << 30
"""Bytes a shard may unpack to: more is a damaged or hostile file."""

ONE_PUT = {"memory", "http", "https", "s3", "s3a", "gs", "gcs", "abfs", "az"}
"""Stores where a file that is put is seen whole or not at all; others get a temporary name and a rename."""

MAPS = {"alpha": 1, "albedo": 3, "normal": 3, "roughness": 1, "f0": 3, "depth": 1}
"""Channels of the ground truth that stands beside the lamps' pictures, each (H, W, C)."""


def rounded_half(values: Array) -> Array:
    """float16 of radiances with the last two bits of the mantissa rounded away; what overflows is clipped.

    What is a little negative stays: where no light arrives noise is about zero, and a sum over lamps must not gain by it.
    """
    half = np.clip(values, -60000.0, 60000.0).astype(np.float16).view(np.uint16)
    return ((half + np.uint16(2)) & np.uint16(0xFFFC)).view(np.float16)


@dataclass(frozen=True)
class Shard:
    """One subject: ``olat`` (L, H, W, 3) float32 premultiplied, ``maps`` by name (H, W, C), ``info`` of its making."""

    olat: Array
    maps: dict[str, Array]
    info: dict[str, Any]


def pack(shard: Shard, level: int = 6) -> bytes:
    """A shard as bytes; see the module's text for the layout."""
    seen = shard.maps["alpha"][..., 0] > 0
    lit = rounded_half(np.moveaxis(shard.olat[:, seen], 2, 1))  # (L, 3, P)
    planes = np.ascontiguousarray(lit).view(np.uint8).reshape(*lit.shape, 2)
    arrays = {"olat": np.ascontiguousarray(np.moveaxis(planes, -1, 0))}
    for name in MAPS:
        arrays[name] = np.ascontiguousarray(shard.maps[name], np.float16)
    body = save(arrays, {"info": json.dumps({"format": FORMAT, **shard.info})})
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(body)


def unpack(data: bytes, name: str) -> Shard:
    """The shard of :func:`pack`'s bytes.

    Raises:
        InputError: truncated, damaged, too large, or of another format.
    """
    again = "Delete it and run train light-stage again: it makes what is missing."
    try:
        claimed = zstandard.frame_content_size(data)
        if not 0 < claimed <= MAX_SHARD:
            raise InputError(f"{name} is no light-stage shard: it claims {claimed} bytes.", again)
        body = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_SHARD)
        arrays = load(body)
        length = int.from_bytes(body[:8], "little")
        info = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["info"])
        maps = {key: arrays[key].astype(np.float32) for key in MAPS}
        planes = arrays["olat"]
        seen = maps["alpha"][..., 0] > 0
        lit = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view(np.float16)[..., 0]
        olat = np.zeros((len(lit), *seen.shape, 3), np.float32)
        olat[:, seen] = np.moveaxis(lit, 1, 2)
    except (zstandard.ZstdError, SafetensorError, KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{name} is a damaged light-stage shard.", again) from error
    if info.get("format") != FORMAT:
        raise InputError(f"{name} has format {info.get('format')}, this version reads {FORMAT}.", again)
    return Shard(olat, maps, info)


def shard_name(index: int) -> str:
    """The file that subject ``index`` lies in."""
    return f"subject-{index:06d}.st.zst"


def number_of(name: str) -> int:
    """The number of the subject that a shard's name tells."""
    return int(name.removeprefix("subject-").split(".")[0])


class Store:
    """A light-stage set at ``url``: a folder's path or any URL that fsspec has a filesystem for."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url.rstrip("/")
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url, **options)
        except (ValueError, ImportError) as error:
            raise InputError(f"{url} is no store that can be reached ({error}).", "Check the URL.") from error

    def _at(self, name: str) -> str:
        return f"{str(self.root).rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """The bytes of one file. InputError where it is absent or the store does not answer."""
        try:
            content = self.fs.cat_file(self._at(name))
        except Exception as error:  # each filesystem has errors of its own, down to its HTTP client's
            raise InputError(
                f"{self.url}/{name} cannot be read ({type(error).__name__}).",
                "Check the URL and the network.",
            ) from error
        return bytes(content)

    def write(self, name: str, data: bytes) -> None:
        """Write one file whole or not at all."""
        if isinstance(self.fs, LocalFileSystem):
            write_bytes(self._at(name), data)
            return
        try:
            self.fs.makedirs(str(self.root), exist_ok=True)
            if self._scheme() in ONE_PUT:
                self.fs.pipe_file(self._at(name), data)
                return
            partial = self._at(f".{name}.{os.getpid()}-{secrets.token_hex(4)}.part")
            self.fs.pipe_file(partial, data)
            self.fs.mv(partial, self._at(name))
        except Exception as error:  # as in read
            raise PlatelightError(
                f"{self.url}/{name} could not be written ({type(error).__name__}).",
                "Give a store that takes files, or write to a folder and serve that folder.",
            ) from error

    def _scheme(self) -> str:
        protocol = self.fs.protocol
        return str(protocol if isinstance(protocol, str) else protocol[0])

    def names(self) -> list[str]:
        """Shards that are there, by listing; stores that cannot list are asked for ``index.json``."""
        try:
            self.fs.invalidate_cache()
            found = [str(path).rsplit("/", 1)[-1] for path in self.fs.ls(self._at(""), detail=False)]
        except FileNotFoundError:
            return []
        except Exception:  # a web server without directory listings
            return self.index()
        return sorted(n for n in found if n.startswith("subject-") and n.endswith(".st.zst"))

    def index(self) -> list[str]:
        """Shards that ``index.json`` names."""
        try:
            names = json.loads(self.read("index.json"))["shards"]
            return sorted(str(name) for name in names)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{self.url}/index.json is damaged.", "Run train light-stage again.") from error

    def write_index(self, names: Iterable[str]) -> None:
        """Say which shards are whole."""
        self.write("index.json", json.dumps({"format": FORMAT, "shards": sorted(names)}, indent=0).encode())

    def manifest(self) -> dict[str, Any] | None:
        """What the set is, or None where none was begun; InputError where it is damaged or of another format."""
        if not self.fs.exists(self._at("manifest.json")):
            return None
        try:
            manifest: dict[str, Any] = json.loads(self.read("manifest.json"))
            found = manifest["format"]
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{self.url}/manifest.json is damaged.", "Make the set anew elsewhere."
            ) from error
        if found != FORMAT:
            raise InputError(
                f"{self.url} has format {found}, this version reads {FORMAT}.", "Make the set anew elsewhere."
            )
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Begin a set."""
        self.write("manifest.json", json.dumps({"format": FORMAT, **manifest}, indent=1).encode())

    def read_shard(self, name: str) -> Shard:
        """One subject. InputError where it is absent or damaged."""
        return unpack(self.read(name), f"{self.url}/{name}")
