"""Poly Haven's HDRIs (CC0): list, thumbnails, downloads that resume and are checked. No bpy module use.

The public API asks for a user agent that tells who calls. A file is written beside its place as ``.part``, continued
by a Range request after a break, checked against the size and the MD5 that the API gives, and renamed. Its SHA-256 is kept
beside it (``NAME.exr.sha256``, as ``sha256sum`` writes it), and the file is checked by that whenever it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .exr_write import write_atomically
from .jobs import Reporter
from .wire import Cancelled, InputError, JobFailed, version

API = "https://api.polyhaven.com"
THUMBNAILS = "https://cdn.polyhaven.com/asset_img/thumbs"
_LIST_AGE = 24 * 3600.0  # seconds that a list is used without asking again
_CHUNK = 1 << 16
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and between bytes
_LONGEST = 1 << 31


@dataclass(frozen=True)
class Hdri:
    """One HDRI of the library."""

    id: str
    name: str
    categories: tuple[str, ...]
    tags: tuple[str, ...]
    downloads: int

    def matches(self, words: str, category: str) -> bool:
        """Whether every word is in name, tags or categories, and the category is its own; "" asks for nothing."""
        text = " ".join((self.id, self.name, *self.tags, *self.categories)).lower()
        return all(word in text for word in words.lower().split()) and (
            not category or category in self.categories
        )


@dataclass(frozen=True)
class Remote:
    """A file to download: where, how large, and its MD5 as hexadecimal."""

    url: str
    size: int
    md5: str


class Library:
    """Poly Haven as its API shows it, with a cache folder; used from a job's thread.

    ``api`` and ``thumbnails`` are addresses, for tests and mirrors.
    """

    def __init__(self, cache: Path, api: str = API, thumbnails: str = THUMBNAILS) -> None:
        import requests  # Blender carries it; loaded with the first look

        self._cache = cache
        self._api = api.rstrip("/")
        self._thumbnails = thumbnails.rstrip("/")
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"Platelight/{version} (Blender extension)"
        self._failure: type[Exception] = requests.RequestException

    def _get(self, url: str, **options: Any) -> Any:
        try:
            answer = self._session.get(url, timeout=_TIMEOUT, **options)
            if answer.status_code != 416:
                answer.raise_for_status()
            return answer
        except self._failure as error:
            raise JobFailed(f"Poly Haven cannot be reached: {error}.", "Try again later.") from error

    def hdris(self) -> list[Hdri]:
        """All HDRIs, the most used first; from the cache while it is a day old or the network is away.

        Raises:
            JobFailed: no answer and nothing kept, or an answer that is not a list.
        """
        kept = self._cache / "hdris.json"
        if kept.is_file() and time.time() - kept.stat().st_mtime < _LIST_AGE:
            return _listed(kept.read_bytes())
        try:
            content = self._get(f"{self._api}/assets", params={"type": "hdris"}).content
            found = _listed(content)
        except JobFailed:
            if kept.is_file():
                return _listed(kept.read_bytes())
            raise
        write_atomically(kept, content)
        return found

    def thumbnail(self, hdri: str) -> Path:
        """A PNG of the HDRI, downloaded once.

        Raises:
            JobFailed: it cannot be had.
        """
        path = self._cache / "thumbnails" / f"{_safe(hdri)}.png"
        if not path.is_file():
            content = self._get(
                f"{self._thumbnails}/{_safe(hdri)}.png", params={"width": 256, "height": 128}
            ).content
            if not content.startswith(b"\x89PNG"):
                raise JobFailed(f"The thumbnail of {hdri} is no picture.", "Try again later.")
            write_atomically(path, content)
        return path

    def file(self, hdri: str, resolution: str) -> Remote:
        """The EXR, or else the HDR, of a resolution such as ``2k``.

        Raises:
            JobFailed: there is none.
        """
        answer = self._get(f"{self._api}/files/{_safe(hdri)}")
        try:
            kinds = answer.json()["hdri"][resolution]
            entry = kinds.get("exr") or kinds["hdr"]
            found = Remote(str(entry["url"]), int(entry["size"]), str(entry["md5"]).lower())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JobFailed(
                f"Poly Haven has no {hdri} of {resolution}.", "Choose another resolution."
            ) from error
        if not found.url.startswith(("https://", "http://127.0.0.1")) or not 0 < found.size < _LONGEST:
            raise JobFailed(f"Poly Haven's answer for {hdri} makes no sense.", "Try again later.")
        return found

    def download(self, hdri: str, resolution: str, reporter: Reporter) -> Path:
        """The HDRI's file, from the cache if it was downloaded before and is still what arrived then.

        Raises:
            JobFailed: it cannot be had, or is not what the API promises after a second try.
            Cancelled: the reporter asked for it; what came so far is kept and continued next time.
        """
        folder = self._cache / "hdris"
        for kept in folder.glob(f"{_safe(hdri)}_{_safe(resolution)}.*"):
            if kept.suffix in {".exr", ".hdr"} and _unchanged(kept):
                return kept
        remote = self.file(hdri, resolution)
        target = (
            folder / f"{_safe(hdri)}_{_safe(resolution)}{'.exr' if remote.url.endswith('.exr') else '.hdr'}"
        )
        part = target.with_name(target.name + ".part")
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file() and _unchanged(target) is None:  # kept without its SHA-256: by what the API says
            os.replace(target, part)
        for _ in range(2):  # a part that is wrong is thrown away and fetched anew, once
            self._fetch(remote, part, reporter)
            if part.stat().st_size == remote.size and _md5(part) == remote.md5:
                write_atomically(_sum_file(target), f"{_sha256(part)}  {target.name}\n".encode())
                os.replace(part, target)
                return target
            part.unlink()
        raise JobFailed(f"{hdri} arrived damaged twice.", "Try again later.")

    def _fetch(self, remote: Remote, part: Path, reporter: Reporter) -> None:
        have = part.stat().st_size if part.is_file() else 0
        if have >= remote.size:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._get(remote.url, headers=headers, stream=True) as answer:
            if have and answer.status_code != 206:
                have = 0  # the server does not continue: from the start
            with part.open("ab" if have else "wb") as stream:
                try:
                    for chunk in answer.iter_content(_CHUNK):
                        if reporter.cancelled():
                            raise Cancelled("Cancelled.")
                        stream.write(chunk)
                        have += len(chunk)
                        if have > remote.size:
                            break
                        reporter.progress(
                            have / remote.size, f"{have / 1e6:.1f} of {remote.size / 1e6:.1f} MB"
                        )
                except self._failure as error:
                    raise JobFailed(
                        f"The download broke off after {have / 1e6:.1f} MB: {error}.",
                        "Try again: it goes on there.",
                    ) from error
                stream.flush()
                os.fsync(stream.fileno())


def check(path: Path) -> None:
    """Make sure that a download is what arrived; any other file passes.

    Raises:
        InputError: it was damaged since.
    """
    if _unchanged(path) is False:
        raise InputError(
            f"{path} was damaged after its download.", "Use HDRI under Poly Haven fetches it again."
        )


def categories(found: list[Hdri]) -> list[str]:
    """All categories, the most frequent first."""
    counts: dict[str, int] = {}
    for hdri in found:
        for category in hdri.categories:
            counts[category] = counts.get(category, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))


def chosen(found: list[Hdri], words: str, category: str, count: int) -> list[Hdri]:
    """The first ``count`` that match."""
    return [hdri for hdri in found if hdri.matches(words, category)][:count]


def _listed(content: bytes) -> list[Hdri]:
    try:
        found = [
            Hdri(
                _safe(key),
                str(entry.get("name", key)),
                tuple(map(str, entry.get("categories", ()))),
                tuple(map(str, entry.get("tags", ()))),
                int(entry.get("download_count", 0)),
            )
            for key, entry in json.loads(content).items()
        ]
    except (ValueError, AttributeError, TypeError) as error:
        raise JobFailed("Poly Haven's list cannot be read.", "Try again later.") from error
    return sorted(found, key=lambda hdri: (-hdri.downloads, hdri.id))


def _safe(name: str) -> str:
    """A name that may be part of an address and of a file's name.

    Raises:
        JobFailed: it may not.
    """
    if not name or not all(c.isalnum() or c in "_-" for c in name):
        raise JobFailed(f"{name!r} is no name of an HDRI.", "Choose one from the list.")
    return name


def _sum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _unchanged(path: Path) -> bool | None:
    """Whether a file has the SHA-256 that is kept beside it; None where none is."""
    try:
        kept = _sum_file(path).read_text("ascii", "replace").split()
    except OSError:
        return None
    return kept[:1] == [_sha256(path)]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
