"""A shot's camera from a USD stage, frame by frame: its lens, its turn in the world and where it is focused.

A lens whose film is shifted (``horizontalApertureOffset``, ``verticalApertureOffset``) looks past the picture's center. As
requests know centered pictures only, it is taken for a centered lens that is turned to look there: right in the center
and at its left and right on average, see :class:`_Lens`.

``pxr`` (the package usd-core) is imported when a stage is opened, and only then.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.images import Frame
from platelight.images.sanitize import Pixels
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Decompose, Relight, options_of

log = logging.getLogger(__name__)

Axes = npt.NDArray[np.float64]
"""Axes (3, 3) of a camera as columns, right, up and backwards, in some frame."""

_ARGUMENT = re.compile(r"(.+\.usd[acz]?)(?::(/.*))?", re.IGNORECASE)
_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""From a stage whose Z is up to one whose Y is: what looks along +Y there looks along -Z here."""


ASKEW = 1.0
"""Degrees by which a ray of a shifted lens may be off, as it is taken, before it is told."""


@dataclass(frozen=True)
class _Lens:
    """A lens's window one unit before the eye: its center (x, y), right and up, and half its width and height."""

    x: float
    y: float
    half_width: float
    half_height: float

    def rays(self, u: float, v: float) -> npt.NDArray[np.float64]:
        """The unit ray (3,) through a point of the picture, from -1, -1 at the lower left to 1, 1, in the camera's axes."""
        ray = np.array([self.x + u * self.half_width, self.y + v * self.half_height, -1.0])
        return np.asarray(ray / np.linalg.norm(ray))

    @property
    def fov(self) -> float:
        """The angle in degrees that the picture's middle row is seen under."""
        left, right = self.rays(-1, 0), self.rays(1, 0)
        return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(left, right)), left @ right)))

    @property
    def turn(self) -> Axes:
        """Axes, in the camera's, of one that looks at the picture's center and has its rows level."""
        back = -self.rays(0, 0)
        right = np.array([1.0, 0.0, 0.0]) - back[0] * back
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back], axis=1)

    @property
    def askew(self) -> float:
        """The largest angle in degrees between a corner's ray and that of the centered lens it is taken for."""
        half = np.tan(np.radians(self.fov) / 2.0)
        taken = _Lens(0.0, 0.0, half, half * self.half_height / self.half_width)
        cosines = [
            self.rays(u, v) @ self.turn @ taken.rays(u, v) for u in (-1, 1) for v in (-1, 1)
        ]  # fmt: skip
        return float(np.degrees(np.arccos(np.clip(min(cosines), -1.0, 1.0))))


@dataclass(frozen=True)
class View:
    """A camera at one frame: ``fov`` horizontal in degrees; ``axes`` (3, 3) its axes as columns in a world whose Y is up,
    which look at the picture's center; ``distance`` in meters at which it is focused, None where it has no depth of field."""

    fov: float
    axes: Axes
    distance: float | None


@dataclass(frozen=True)
class ShotCamera:
    """A camera prim of a stage. Frame F of a plate is the stage's frame F, by the stage's own rates."""

    path: str
    stage: Any
    camera: Any

    @staticmethod
    def of(parsed: argparse.Namespace, frames: Sequence[Frame]) -> ShotCamera | None:
        """What ``--camera`` names, tried for all frames before anything long begins; None without it.

        Raises:
            InputError: no usable camera is there, ``--fov`` is given as well, or a frame has none.
        """
        if not parsed.camera:
            return None
        if any(one.name == "fov" and parsed.fov != one.default for one in options_of(Decompose)):
            raise InputError("--fov and --camera both tell the field of view.", "Leave one out.")
        found = ShotCamera.open(parsed.camera)
        for frame in frames:
            found.at(frame)
        found._warn(frames)
        return found

    @staticmethod
    def open(argument: str) -> ShotCamera:
        """Open ``stage.usd``, which holds one camera, or ``stage.usd:/its/path``.

        Raises:
            InputError: usd-core is not installed, the file is none that USD reads, or it has no such camera.
        """
        match = _ARGUMENT.fullmatch(argument)
        if match is None:
            raise InputError(
                f"--camera {argument} names no USD file.", "Give a .usd, .usda, .usdc or .usdz, or FILE:/prim/path."
            )  # fmt: skip
        path, name = match[1], match[2]
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file.", "Check the path.")
        try:
            from pxr import Tf, Usd, UsdGeom
        except ImportError as error:
            raise InputError(
                "--camera needs the package usd-core.", "Install it: pip install 'platelight[usd]'."
            ) from error
        try:
            stage = Usd.Stage.Open(path)
        except Tf.ErrorException as error:
            raise InputError(f"{path} is not a readable USD file.", "Export it again.") from error
        cameras = {
            str(prim.GetPath()): UsdGeom.Camera(prim)
            for prim in Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies())
            if prim.IsA(UsdGeom.Camera)
        }
        return ShotCamera(path, stage, cameras[_chosen(path, name, list(cameras), stage)])

    def at(self, frame: Frame) -> View:
        """The camera at a frame.

        Raises:
            InputError: it is no perspective camera there, its field of view is out of range, or it moves and the
                frame is none of a sequence.
        """
        from pxr import UsdGeom

        when, said = self._time(frame), "" if frame.number is None else f" at frame {frame.number}"
        lens = self.camera.GetCamera(when)
        fov, turn = self._fov(when, said), _lens_of(lens).turn
        unit = UsdGeom.GetStageMetersPerUnit(self.stage)
        focused = lens.fStop > 0.0 and lens.focusDistance > 0.0
        return View(fov, self._axes(when, said) @ turn, lens.focusDistance * unit if focused else None)

    def _warn(self, frames: Sequence[Frame]) -> None:
        """Tell it once where a lens is shifted so far that turning does not stand for it."""
        most = max(
            (_lens_of(self.camera.GetCamera(self._time(frame))).askew for frame in frames), default=0.0
        )
        if most > ASKEW:
            log.warning(
                "%s has its aperture shifted so far that rays towards the corners are taken up to %.1f degrees off; "
                "render a picture that is centered for lights in their exact places.", self, most,
            )  # fmt: skip

    def request(self, frame: Frame) -> dict[str, float]:
        """The option of both requests that the lens decides: ``fov``."""
        return {"fov": self.at(frame).fov}

    def axes(self, frame: Frame) -> Axes:
        """The axes of the camera at a frame; see :class:`View`."""
        return self.at(frame).axes

    def lens(self) -> list[tuple[float, float]]:
        """(time code, fov) at every key of the lens: what maps depend on, for records."""
        keys = {t for attribute in self._lens_attributes() for t in attribute.GetTimeSamples()}
        return [(t, self._fov(t, "")) for t in sorted(keys) or [0.0]]

    def _lens_attributes(self) -> tuple[Any, ...]:
        camera = self.camera
        offsets = camera.GetHorizontalApertureOffsetAttr(), camera.GetVerticalApertureOffsetAttr()
        return camera.GetFocalLengthAttr(), camera.GetHorizontalApertureAttr(), *offsets

    def _time(self, frame: Frame) -> Any:
        """The time code of a frame: frames become seconds by the stage's frame rate, and those its time codes."""
        from pxr import Usd, UsdGeom

        if frame.number is not None:
            codes = self.stage.GetTimeCodesPerSecond()
            # A stage that tells no frame rate counts in frames.
            rate = (
                self.stage.GetFramesPerSecond()
                if self.stage.HasAuthoredMetadata("framesPerSecond")
                else codes
            )
            return Usd.TimeCode(frame.number * codes / rate)
        prim, moves = self.camera.GetPrim(), len(self.lens()) > 1
        while prim and not moves:
            placed = UsdGeom.Xformable(prim)
            moves = bool(placed) and placed.TransformMightBeTimeVarying()
            prim = prim.GetParent()
        if moves:
            raise InputError(
                f"{frame.path} has no frame number, and {self} moves.", "Give a sequence, or a camera that stands still."
            )  # fmt: skip
        return Usd.TimeCode.EarliestTime()

    def _fov(self, when: Any, said: str) -> float:
        camera = self.camera.GetCamera(when)
        if camera.projection != camera.Perspective:
            raise InputError(f"{self} is orthographic{said}.", "Give a perspective camera.")
        if not (camera.focalLength > 0.0 and camera.horizontalAperture > 0.0):
            raise InputError(f"{self} has no focal length or no aperture{said}.", "Export it again.")
        fov = _lens_of(camera).fov
        option = next(one for one in options_of(Relight) if one.name == "fov")
        if not (option.minimum or 0) <= fov <= (option.maximum or 0):
            raise InputError(
                f"{self} sees {fov:g} degrees{said}, which is not between {option.minimum:g} and {option.maximum:g}.",
                "Correct its focal length or aperture.",
            )
        return fov

    def _axes(self, when: Any, said: str) -> Axes:
        from pxr import UsdGeom

        matrix = np.array(self.camera.ComputeLocalToWorldTransform(when))[:3, :3].T
        left, lengths, right = np.linalg.svd(matrix)
        # What is between two keyed matrices is no rotation; the nearest one is taken, without scale and shear.
        axes = left @ right
        if lengths[-1] < 1e-6 * lengths[0] or np.linalg.det(axes) < 0.0:
            raise InputError(f"{self} is mirrored or flat{said}.", "Make its scale positive.")
        return np.asarray(_Z_UP @ axes if UsdGeom.GetStageUpAxis(self.stage) == UsdGeom.Tokens.z else axes)

    def __str__(self) -> str:
        return f"{self.path}:{self.camera.GetPath()}"


def _lens_of(camera: Any) -> _Lens:
    """The window of a ``GfCamera``, whose apertures and offsets are in the unit of its focal length."""
    focal = camera.focalLength
    return _Lens(
        camera.horizontalApertureOffset / focal, camera.verticalApertureOffset / focal,
        camera.horizontalAperture / 2.0 / focal, camera.verticalAperture / 2.0 / focal,
    )  # fmt: skip


def seen(light: Pixels, axes: Axes) -> Pixels:
    """A light (h, 2h, 3), linear radiance, as a camera sees it whose axes are the columns of ``axes`` in the light's frame."""
    import torch  # the pipeline's, which a plain light need not wait for

    from platelight.shading.environment import seen_from

    with torch.inference_mode():
        env = torch.from_numpy(light).permute(2, 0, 1)[None]
        found = seen_from(env, torch.from_numpy(axes))
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())


def _chosen(path: str, name: str | None, cameras: list[str], stage: Any) -> str:
    """Which of a stage's cameras is meant.

    Raises:
        InputError: none, or several and none is named.
    """
    listed = ", ".join(cameras[:4]) + (f" and {len(cameras) - 4} more" if len(cameras) > 4 else "")
    if not cameras:
        raise InputError(f"{path} has no camera.", "Export the shot's camera as well.")
    if name in cameras:
        return name
    if name is None and len(cameras) == 1:
        return cameras[0]
    if name is None:
        raise InputError(f"{path} has several cameras: {listed}.", f"Name one: {path}:{cameras[0]}.")
    prim = stage.GetPrimAtPath(name) if name != "/" else None
    what = f"{name} in {path} is no camera" if prim else f"{path} has no prim {name}"
    raise InputError(f"{what}.", f"Name a camera: {listed}.")
