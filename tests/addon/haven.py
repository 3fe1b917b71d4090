"""A local server that speaks Poly Haven's API, and misbehaves when told to."""

from __future__ import annotations

import hashlib
import json
import struct
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 2048  # half a megabyte


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG = (  # two gray pixels
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0\x40\x80"))
    + _chunk(b"IEND", b"")
)
ASSETS = {
    "night_city": {
        "name": "Night City",
        "categories": ["night", "urban"],
        "tags": ["neon"],
        "download_count": 5,
    },
    "small_studio": {
        "name": "Small Studio",
        "categories": ["studio"],
        "tags": ["softbox"],
        "download_count": 9,
    },
    "dusk": {"name": "Dusk", "categories": ["urban"], "tags": [], "download_count": 1},
}


class Haven(ThreadingHTTPServer):
    """The server: what it was asked, and how it is to misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str]] = []
        self.break_after = 0  # bytes, once
        self.damage = 0  # answers with a wrong byte
        self.content = CONTENT
        self.continues = True
        self.pause = 0.0  # seconds in the middle of a file
        self.pictures: dict[str, bytes] = {}  # thumbnails by asset; two gray pixels for the others

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """GET as api.polyhaven.com, its CDN and its file server answer."""

    server: Haven

    def do_GET(self) -> None:
        path, _, _query = self.path.partition("?")
        self.server.asked.append((path, self.headers.get("Range", ""), self.headers.get("User-Agent", "")))
        if path == "/assets":
            return self.answer(json.dumps(ASSETS).encode())
        if path.startswith("/files/"):
            entry = {
                "url": f"{self.server.address}/dl/x_1k.exr",
                "size": len(self.server.content),
                "md5": hashlib.md5(self.server.content).hexdigest(),
            }
            return self.answer(json.dumps({"hdri": {"1k": {"exr": entry, "hdr": entry}}}).encode())
        if path.startswith("/thumbs/"):
            return self.answer(self.server.pictures.get(path.split("/")[-1].partition(".")[0], PNG))
        if path == "/dl/x_1k.exr":
            return self.file()
        self.send_error(404)
        return None

    def answer(self, content: bytes, status: int = 200, pause: float = 0.0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        time.sleep(pause)
        self.wfile.write(content[half:])

    def file(self) -> None:
        start = 0
        if self.server.continues and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        content = self.server.content[start:]
        if self.server.damage:
            self.server.damage -= 1
            content = b"!" + content[1:]
        if self.server.break_after:
            cut, self.server.break_after = self.server.break_after, 0
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:cut])
            self.wfile.flush()
            self.close_connection = True
            return
        self.answer(content, 206 if start else 200, self.server.pause)

    def log_message(self, *_args: Any) -> None:
        pass
