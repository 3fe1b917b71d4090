"""Read tensors out of a legacy PyTorch ``.pth`` state dict without executing anything in it.

The only ImageNet encoder that a package registry carries under a free license comes in this format, which is a
sequence of pickles followed by raw storages. Instead of unpickling, which can run arbitrary code, the opcodes are
listed by ``pickletools`` and the few that a state dict uses are interpreted here; any other is refused.
"""

from __future__ import annotations

import io
import pickletools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from platelight.protocol.errors import InputError

_DTYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"}


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]


_MARK = object()


def _interpret(stream: io.BytesIO) -> Any:
    """Interpret one pickle's opcodes on a small stack machine; leaves the stream after its STOP."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def to_mark() -> list[Any]:
        index = len(stack) - 1 - next(i for i, item in enumerate(reversed(stack)) if item is _MARK)
        items = stack[index + 1 :]
        del stack[index:]
        return items

    for op, argument, _ in pickletools.genops(stream):
        match op.name:
            case "PROTO" | "STOP" | "FRAME":
                pass
            case "GLOBAL":
                stack.append(_Global(str(argument)))
            case (
                "BINUNICODE"
                | "SHORT_BINUNICODE"
                | "BININT"
                | "BININT1"
                | "BININT2"
                | "LONG1"
                | "BINSTRING"
                | "SHORT_BINSTRING"
            ):
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE":
                stack.append(tuple(to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(op.name[-1])
                items = tuple(stack[-count:])
                del stack[-count:]
                stack.append(items)
            case "BINPUT" | "LONG_BINPUT":
                memo[int(argument or 0)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument or 0)])
            case "BINPERSID":
                _, kind, key, *_rest = stack.pop()
                stack.append(_Storage(kind.name.split()[-1], str(key)))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if function.name == "collections OrderedDict":
                    stack.append({})
                elif function.name == "torch._utils _rebuild_tensor_v2":
                    stack.append(_Tensor(arguments[0], arguments[1], tuple(arguments[2])))
                else:
                    raise InputError(f"the archive calls {function.name}, which a state dict has no need of.")
            case "SETITEMS":
                pairs = to_mark()
                stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][key] = value
            case "APPENDS":
                more = to_mark()
                stack[-1].extend(more)
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "BUILD":
                stack.pop()  # attributes of the dict itself (its _metadata), of no interest
            case _:
                raise InputError(
                    f"the archive holds the opcode {op.name}, which a state dict has no need of."
                )
    return stack[-1]


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a legacy state dict.

    Raises:
        InputError: the file is not such an archive.
    """
    stream = io.BytesIO(path.read_bytes())
    for _ in range(3):  # magic number, protocol version, system info
        _interpret(stream)
    entries = _interpret(stream)
    keys = _interpret(stream)
    kinds = {t.storage.key: t.storage.kind for t in entries.values() if isinstance(t, _Tensor)}
    storages: dict[str, npt.NDArray[Any]] = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        code = _DTYPES.get(kinds.get(str(key), ""))
        if code is None:
            raise InputError(f"{path} holds a storage of an unknown kind {kinds.get(str(key))}.")
        dtype: np.dtype[Any] = np.dtype(code)
        raw = stream.read(count * dtype.itemsize)
        if len(raw) != count * dtype.itemsize:
            raise InputError(f"{path} is truncated.", "Install the package that carries it again.")
        storages[str(key)] = np.frombuffer(raw, dtype)
    tensors = {}
    for name, entry in entries.items():
        if isinstance(entry, _Tensor):
            size = int(np.prod(entry.shape)) if entry.shape else 1
            flat = storages[entry.storage.key][entry.offset : entry.offset + size]
            tensors[name] = torch.from_numpy(flat.reshape(entry.shape).copy())
    return tensors
