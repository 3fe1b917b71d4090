"""Run in a process of its own: a light-stage set's picture and a direct render under HDRIs. Arguments: out, HDRIs.

Writes out/stage.st.zst and out/NAME.npy (H, W, 3) for each HDRI, and its lat-long out/NAME-env.npy (64, 128, 3).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
from platelight.images.exr import read_exr
from platelight.training.light_stage_scene import photograph, photograph_under
from platelight.training.light_stage_store import MAPS, Shard, pack
from platelight.training.light_stage_subjects import Casting, Family

SIZE, LAMPS, SAMPLES, DIRECT = 96, 64, 192, 96


def main(out: Path, hdris: list[Path]) -> None:
    """Photograph one figurine both ways."""
    subject = Casting(None).draw(3, 0, Family.FIGURINE)
    shot = photograph(subject, LAMPS, SIZE, SAMPLES, seed=1)
    maps = {name: getattr(shot, name) for name in MAPS}
    (out / "stage.st.zst").write_bytes(pack(Shard(shot.olat, maps, {"fov": subject.fov})))
    for path in hdris:
        channels = read_exr(path)[0].channels
        full = np.stack([channels[c] for c in "RGB"], -1).astype(np.float32)
        env = cv2.resize(full, (128, 64), interpolation=cv2.INTER_AREA)
        np.save(out / f"{path.stem}-env.npy", env)
        # Another seed for the noise, the same for the subject's dress: photograph takes both from its seed.
        np.save(out / f"{path.stem}.npy", photograph_under(subject, env, SIZE, DIRECT, seed=1)[..., :3])


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
    sys.stdout.flush()
    os._exit(0)
