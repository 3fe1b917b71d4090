"""``platelight farm``: the templates for render farms that this installation carries."""

from __future__ import annotations

import argparse
from pathlib import Path

from platelight.images.atomic import write_bytes
from platelight.protocol.errors import InputError

FOLDER = Path(__file__).resolve().parent.parent / "farm"
FILES = {
    "openjd": FOLDER / "openjd" / "relight.yaml",
    "flamenco": FOLDER / "flamenco" / "platelight_relight.js",
}


def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    if parsed.what not in FILES:
        raise InputError("Ray needs no template.", "Write 'platelight farm ray relight …'.")
    content = FILES[parsed.what].read_bytes()
    if parsed.output:
        write_bytes(parsed.output, content)
        print(parsed.output)
    else:
        print(content.decode(), end="")
    return 0
