"""Decoding in a process of its own: the same pixels, and a file that kills its decoder costs itself only."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from platelight import images
from platelight.images import apart, exr
from platelight.images.apart import decoding_apart
from platelight.images.exr import read_exr
from platelight.protocol.errors import InputError

pytestmark = pytest.mark.skipif(not apart.POSSIBLE, reason="this platform decodes in the same process")

FATAL = """
import os, signal, sys
if "platelight.images.apart_child" in sys.orig_argv:
    import OpenEXR
    class File(OpenEXR.File):
        def __init__(self, name, **more):
            if "deadly" in name and not more.get("header_only"):
                os.kill(os.getpid(), getattr(signal, os.environ["DEATH"]))
            super().__init__(name, **more)
    OpenEXR.File = File
"""
"""For a decoder's process: pixels of a file whose name says so kill it, as a hole in a decoder would."""


def fatal(folder: Path, death: str = "SIGSEGV") -> dict[str, str]:
    """Variables that make a decoder's process die of ``deadly`` files."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FATAL)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "DEATH": death}


def save(path: Path, seed: int = 0, **header: Any) -> Path:
    rng = np.random.default_rng(seed)
    channels = {leaf: rng.uniform(0, 1, (48, 64)).astype(np.float16) for leaf in "RGB"}
    channels["Z"] = rng.uniform(0, 1, (48, 64)).astype(np.float32)
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, channels).write(str(path))
    return path


def test_the_same_as_in_this_process(tmp_path: Path) -> None:
    header = {"framesPerSecond": Fraction(24000, 1001), "owner": "somebody", "camera": (1.0, 2.0, 3.0)}
    path = save(tmp_path / "ä b.exr", **header)
    images.write_png_values(tmp_path / "b.png", np.random.default_rng(1).uniform(0, 1, (9, 7, 3)))
    here, there = read_exr(path)[0], images.read_plate(tmp_path / "b.png")
    with decoding_apart():
        part, plate = read_exr(path)[0], images.read_plate(tmp_path / "b.png")
    assert list(part.channels) == list(here.channels)
    for name, values in here.channels.items():
        assert part.channels[name].dtype == values.dtype
        np.testing.assert_array_equal(part.channels[name], values)
    assert part.attributes.keys() == here.attributes.keys()
    assert part.attributes["framesPerSecond"] == Fraction(24000, 1001)
    assert (part.data, part.display, part.name) == (here.data, here.display, here.name)
    np.testing.assert_array_equal(plate.pixels, there.pixels)
    assert plate.colorspace == there.colorspace


def test_pixels_may_be_written_to(tmp_path: Path) -> None:
    with decoding_apart():
        part = read_exr(save(tmp_path / "a.exr"))[0]
    part.channels["R"][:] = 0.25
    assert (part.channels["R"] == 0.25).all()


@pytest.mark.parametrize(
    ("death", "sentence"),
    [
        ("SIGSEGV", "{p} is damaged: it crashes its decoder (SIGSEGV). Render or export it again."),
        ("SIGXCPU", "{p} takes too long to decode. Render or export it again."),
        (
            "SIGKILL",
            "{p} could not be decoded: its decoder was killed, as when memory runs out. "
            "Free some memory, or give a smaller file.",
        ),
    ],
)
def test_a_decoder_that_dies_is_a_sentence_and_the_next_file_is_read(
    death: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fatal(tmp_path / "site", death).items():
        monkeypatch.setenv(name, value)
    bad, good = save(tmp_path / "deadly.exr"), save(tmp_path / "good.exr")
    with decoding_apart():
        for _ in range(2):
            with pytest.raises(InputError) as caught:
                read_exr(bad)
            assert str(caught.value) == sentence.format(p=bad)
            assert read_exr(good)[0].channels["R"].shape == (48, 64)


def test_more_than_the_machine_has_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.exr")
    monkeypatch.setattr(exr, "machine_memory", lambda: 10_000)
    with pytest.raises(InputError, match="GiB of pixels, and this machine has"):
        read_exr(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the process's size")
def test_a_decoder_cannot_take_much_more_than_the_header_promises() -> None:
    code = (
        "from platelight.images.apart_child import ROOM, limit_memory; import numpy as np\n"
        "limit_memory(1 << 20)\n"
        "np.zeros(ROOM // 2, np.uint8)\n"
        "try:\n    np.zeros(2 * ROOM, np.uint8)\nexcept MemoryError:\n    print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "refused", done.stderr


def test_no_child_is_left(tmp_path: Path) -> None:
    with decoding_apart():
        read_exr(save(tmp_path / "a.exr"))
        pool = apart.active()
        assert pool is not None
        process = pool._idle[0]._process
        assert process.poll() is None
    assert process.poll() is not None
    assert apart.active() is None
