"""Color spaces by name, of the OpenColorIO configuration in force: ``--ocio``, else ``$OCIO``, else ACES' own that OpenColorIO carries."""

from __future__ import annotations

import difflib
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.protocol.errors import InputError

BUILTIN = "ocio://studio-config-v2.1.0_aces-v1.3_ocio-v2.3"
"""The ACES studio configuration: it knows the camera log spaces, and every OCIO since 2.3 has it."""

LINEAR = "Linear Rec.709 (sRGB)"
"""What Platelight works in, as OpenColorIO's own configurations call it."""

_SHOWN = 5  # names in a sentence
_chosen = ""


def choose(path: str | None) -> None:
    """Take a configuration (a ``.ocio`` or ``.ocioz`` file, or ``ocio://NAME``) for this process; None for the usual one."""
    global _chosen
    _chosen = path or ""


def name_in_force() -> str:
    """The configuration in force, as it was named."""
    return _chosen or os.environ.get("OCIO") or BUILTIN


def identity() -> str:
    """A digest of the configuration in force and of the files that it reads, for records.

    Raises:
        InputError: it cannot be read.
    """
    return str(_load(name_in_force()).getCacheID())


def decoder(space: str) -> Any:
    """OpenColorIO's processor from a space to linear Rec.709; its ``applyRGB`` works in place on packed (…, 3) float32.

    Raises:
        InputError: no such space or configuration, or the configuration does not relate to others.
    """
    return _processor(name_in_force(), space, True)


def encoder(space: str) -> Any:
    """As :func:`decoder`, from linear Rec.709 to a space."""
    return _processor(name_in_force(), space, False)


def matrix_from_rec709(space: str) -> npt.NDArray[np.float64]:
    """3×3 matrix from linear Rec.709 to a space whose values are proportional to light.

    Raises:
        InputError: as :func:`decoder`, or the space is not linear.
    """
    import PyOpenColorIO as ocio  # noqa: N813  (its manual's own alias)

    unit = np.eye(3, dtype=np.float32)
    encoder(space).applyRGB(unit)
    config = _load(name_in_force())
    if not config.isColorSpaceLinear(config.getColorSpace(space).getName(), ocio.REFERENCE_SPACE_SCENE):
        raise InputError(
            f"{space} is not linear, and an EXR file holds linear light.",
            "Name a linear space, such as ACEScg or scene_linear.",
        )
    return unit.T.astype(np.float64)


@functools.lru_cache(maxsize=4)
def _load(name: str) -> Any:
    import PyOpenColorIO as ocio  # noqa: N813

    remedy = "Give --ocio, or the variable OCIO, the path of a .ocio file."
    if not name.startswith("ocio://") and not Path(name).is_file():
        raise InputError(f"{name}: no such OpenColorIO configuration.", remedy)
    try:
        config = ocio.Config.CreateFromFile(name)
        config.validate()
    except ocio.Exception as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} is no OpenColorIO configuration that can be used ({first}).", remedy
        ) from error
    return config


@functools.lru_cache(maxsize=16)
def _processor(config_name: str, name: str, to_linear: bool) -> Any:
    import PyOpenColorIO as ocio  # noqa: N813

    config = _load(config_name)
    space = config.getColorSpace(name)
    if space is None:
        raise InputError(
            f"{config_name} has no color space named {name!r}.", f"It has {_near(config, name)}."
        )
    own = space.getName()
    try:
        if to_linear:
            made = ocio.Config.GetProcessorToBuiltinColorSpace(config, own, LINEAR)
        else:
            made = ocio.Config.GetProcessorFromBuiltinColorSpace(LINEAR, config, own)
        return made.getDefaultCPUProcessor()
    except ocio.Exception as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(
            f"{config_name} cannot bring {name} to linear Rec.709 ({first}).",
            "Give it the role aces_interchange.",
        ) from error


def _near(config: Any, name: str) -> str:
    """Names, aliases and roles like ``name``; the first ones where none is."""
    spaces = list(config.getColorSpaces())
    known = [s.getName() for s in spaces] + [role for role, _ in config.getRoles()]
    shown = {text.lower(): text for s in spaces for text in s.getAliases()} | {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), shown, _SHOWN, 0.5)
    chosen = [shown[key] for key in near] or known[:_SHOWN]
    return ", ".join(chosen) + (", …" if len(known) > len(chosen) else "")
