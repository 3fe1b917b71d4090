"""``python -m platelight.training.light_stage_faces URL HDRI...``: what the form of faces is worth, against a set's true normals."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from platelight.pipeline import service
from platelight.protocol.requests import Decompose
from platelight.training.light_stage_reader import each_lit

Array = npt.NDArray[Any]
CHANGED = 0.02  # of a unit normal: where a face was found and believed


def main(argv: list[str] | None = None) -> int:
    """Print each subject's mean error of normals in its face, and of the whole subject, with and without the form of faces."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    missed: dict[str, int] = defaultdict(int)
    for name, path, subject, light, degrees in each_lit(__doc__, argv):
        family = str(subject.info["family"])
        alpha, truth = subject.alpha[0].numpy(), subject.normal.permute(1, 2, 0).numpy()
        small = cv2.resize(light, (128, 64), interpolation=cv2.INTER_AREA)
        relit = subject.relight(torch.from_numpy(small).permute(2, 0, 1)[None], degrees)
        planes = {"plate": relit[0].permute(1, 2, 0).numpy(), "matte": alpha}
        made = [
            service.run_job(Decompose(matte="given", faces=faces), planes).planes["normal"]
            for faces in ("off", "on")
        ]
        solid = (alpha > 0.9) & (np.linalg.norm(truth, axis=-1) > 0.5)
        face = solid & (np.abs(made[1] - made[0]).sum(-1) > CHANGED)
        if not face.any():
            missed[family] += 1
            continue
        errors = [_error(normal, truth, where) for where in (face, solid) for normal in made]
        rows[family].append(errors)
        print(f"{name} {path.stem}: " + " ".join(f"{error:.1f}" for error in errors))
    print("pictures; face off, on; whole subject off, on; no face found")
    for family in sorted({*rows, *missed}):
        errors_of = rows[family]
        mean = " ".join(f"{error:.2f}" for error in np.mean(errors_of, 0)) if errors_of else "none"
        print(f"{family}: {len(errors_of)}; {mean}; {missed[family]}")
    return 0


def _error(normal: Array, truth: Array, where: npt.NDArray[np.bool_]) -> float:
    cosine = (normal * truth).sum(-1)[where] / np.linalg.norm(truth, axis=-1)[where]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


if __name__ == "__main__":
    raise SystemExit(main())
