"""``python -m platelight.training.light_stage_mattes URL HDRI...``: automatic mattes against a set's true ones.

Each subject stands before what the light shows there, out of focus, and is lit by it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.models.networks import MIDDLE
from platelight.pipeline.matting import estimate_matte
from platelight.protocol.errors import NoSubjectError
from platelight.shading.environment import resize, rotate, sample
from platelight.training.light_stage_reader import StageSubject, each_lit, view_directions

Array = npt.NDArray[Any]
LAMP_ROWS = 64  # rows of the light that the lamps' sum is made from
OUT_OF_FOCUS = 0.006  # blur of the backdrop, of the frame's width
FRAME = 0.35  # of the subject's picture, added around it: plates seldom end at the subject


def composite(subject: StageSubject, env: Tensor, degrees: float) -> tuple[Array, Array]:
    """A plate (H, W, 3) and its true alpha (H, W): the subject under a lat-long (1, 3, h, 2h), before what it shows."""
    turned = rotate(env, degrees)
    lit = subject.relight(resize(turned, LAMP_ROWS))[0].permute(1, 2, 0).numpy()
    alpha = subject.alpha[0].numpy()
    margin = round(FRAME * max(alpha.shape))
    edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
    # What the frame cuts must stay cut by it.
    top, bottom, left, right = (0 if edge.max() > 0.5 else margin for edge in edges)
    lit = np.pad(lit, ((top, bottom), (left, right), (0, 0)))
    alpha = np.pad(alpha, ((top, bottom), (left, right)))
    height, width = alpha.shape
    behind = sample(turned, -view_directions(60.0, height, width)[None])[0].permute(1, 2, 0).numpy()
    behind = cv2.GaussianBlur(behind, (0, 0), OUT_OF_FOCUS * width)
    gain = MIDDLE / max(float(lit[alpha > 0.9].mean()), 1e-6)
    return np.clip(gain * (lit + (1 - alpha[..., None]) * behind), 0.0, 1.0).astype(np.float32), alpha


def main(argv: list[str] | None = None) -> int:
    """Print each picture's errors of alpha, and their means by family."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    missed: dict[str, int] = defaultdict(int)
    for name, path, subject, light, degrees in each_lit(__doc__, argv):
        family = str(subject.info["family"])
        plate, truth = composite(subject, torch.from_numpy(light).permute(2, 0, 1)[None], degrees)
        try:
            found = estimate_matte(plate)[0]
        except NoSubjectError:
            missed[family] += 1
            continue
        off = np.abs(found - truth)
        errors = [1000 * float(off.sum() / truth.sum()), 100 * float((off > 0.5).sum() / truth.sum())]
        rows[family].append(errors)
        print(f"{name} {path.stem}: {errors[0]:.1f} {errors[1]:.2f}")
    print(
        "pictures; sum of errors in thousandths of the subject, wrong by half in %: mean, median; no subject found"
    )
    for family in sorted({*rows, *missed}):
        of = np.array(rows[family] or [[np.nan, np.nan]])
        told = " ".join(f"{x:.2f}" for x in (*of.mean(0), *np.median(of, 0)))
        print(f"{family}: {len(rows[family])}; {told}; {missed[family]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
