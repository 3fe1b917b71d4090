"""Side-by-side pictures of an evaluation: plate | normal | true normal | error | albedo | true albedo | relit."""

from __future__ import annotations

import os
from collections.abc import Mapping

import cv2
import numpy as np

from platelight.images import write_png_values
from platelight.images.color import linear_to_srgb
from platelight.images.sanitize import Pixels
from platelight.pipeline.metrics import angles, best_scale

ERROR_TOP = 60.0
"""Degrees that are shown as white in the error picture."""


def write_sheet(path: str | os.PathLike[str], pictures: Mapping[str, Pixels], height: int = 320) -> None:
    """Write one PNG row of what :func:`.evaluate.evaluate` hands to ``seen``; predictions are scaled to the truth."""
    inside = pictures["matte"] > 0.5
    bright = max(float(np.percentile(pictures["plate"][inside], 99.5)), 1e-6)
    panels = [
        linear_to_srgb(np.clip(pictures["plate"] / bright, 0.0, 1.0)),
        _normal(pictures["normal"], inside),
    ]
    if "true_normal" in pictures:
        off = angles(pictures["normal"], pictures["true_normal"]) / ERROR_TOP
        known = inside & (np.linalg.norm(pictures["true_normal"], axis=-1) > 0.5)
        heat = cv2.applyColorMap((np.clip(off, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
        error = heat[..., ::-1].astype(np.float32) / 255.0 * known[..., None]
        panels += [_normal(pictures["true_normal"], known), error]
    for name in ("albedo", "relit"):
        if f"true_{name}" in pictures:
            panels += _pair(pictures[name], pictures[f"true_{name}"], inside)
        elif name in pictures:
            panels.append(linear_to_srgb(np.clip(pictures[name] * inside[..., None], 0.0, 1.0)))
    width = max(1, round(panels[0].shape[1] * height / panels[0].shape[0]))
    shrink = panels[0].shape[0] > height
    mode = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    row = [
        cv2.resize(np.asarray(panel, dtype=np.float32), (width, height), interpolation=mode)
        for panel in panels
    ]
    write_png_values(path, np.hstack(row))


def _normal(normal: Pixels, inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Pixels:
    return np.asarray((0.5 * normal + 0.5) * inside[..., None], dtype=np.float32)


def _pair(
    predicted: Pixels, truth: Pixels, inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> list[Pixels]:
    scale = best_scale(predicted[inside], truth[inside])
    top = max(float(np.percentile(truth[inside], 99.5)), 1e-6)
    both = (predicted * np.float32(scale), truth)
    return [linear_to_srgb(np.clip(picture / top * inside[..., None], 0.0, 1.0)) for picture in both]
