"""Small networks of others that ship with the project as tflite files: loaded once, verified by sha256, never trained here."""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.images.quiet import collected_output
from platelight.protocol.errors import PlatelightError

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parent.parent / "weights"
SHA256 = {
    "selfie_segmentation": "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    "face_detection": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}

_lock = threading.Lock()  # interpreters are not reentrant

Array = npt.NDArray[np.float32]


def path_of(name: str) -> Path:
    """Where a packaged network is."""
    return FOLDER / f"{name}.tflite"


def is_whole(name: str) -> bool:
    """Whether a packaged network is there and unaltered."""
    path = path_of(name)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]


def run(name: str, picture: Array) -> list[Array]:
    """A network's answers, in its own order, for one picture (H, W, 3) of the size and range that it expects.

    Raises:
        PlatelightError: the file is missing or damaged.
    """
    with _lock:
        network = _interpreter(name)
        network.set_tensor(network.get_input_details()[0]["index"], picture[None].astype(np.float32))
        network.invoke()
        return [np.array(network.get_tensor(o["index"])[0], np.float32) for o in network.get_output_details()]


@functools.lru_cache(maxsize=len(SHA256))
def _interpreter(name: str) -> Any:
    if not is_whole(name):
        raise PlatelightError(f"{path_of(name)} is missing or damaged.", "Reinstall platelight.")
    with collected_output() as said:
        from ai_edge_litert.interpreter import Interpreter

        network = Interpreter(model_content=path_of(name).read_bytes(), num_threads=1)
        network.allocate_tensors()
    log.debug("%s", said)
    return network
