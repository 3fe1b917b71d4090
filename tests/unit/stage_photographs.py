"""Run in a process of its own: a light-stage set's picture and a direct render under HDRIs. Arguments: out, HDRIs.

Writes out/stage-LAMPS.st.zst, and out/NAME.npy (H, W, 3) with its lat-long out/NAME-env.npy (h, 2h, 3) for each HDRI
and for "held", the first one as the rig of 64 lamps can hold it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
from platelight.images.exr import read_exr
from platelight.training.light_stage_lights import fibonacci, texel_directions
from platelight.training.light_stage_scene import photograph, photograph_under
from platelight.training.light_stage_store import MAPS, Shard, pack
from platelight.training.light_stage_subjects import Casting, Family
from scipy.spatial import cKDTree

SIZE, COARSE, FINE = 96, 64, 256


def held(
    env: np.ndarray[tuple[int, ...], np.dtype[np.float32]], lamps: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The environment with each of the rig's cells filled by its mean: what the rig can hold exactly. (128, 256, 3)."""
    nearest = cKDTree(fibonacci(lamps))
    owner = nearest.query(texel_directions(64))[1]
    share = np.bincount(owner, minlength=lamps)
    means = np.stack([np.bincount(owner, env[..., c].ravel(), lamps) / share for c in range(3)], 1)
    return means[nearest.query(texel_directions(128))[1]].reshape(128, 256, 3).astype(np.float32)


def main(out: Path, hdris: list[Path]) -> None:
    """Photograph one figurine both ways; one seed throughout, since the subject's dress hangs on it."""
    subject = Casting(None).draw(3, 2, Family.FIGURINE)
    for lamps, samples in ((COARSE, 256), (FINE, 384)):
        shot = photograph(subject, lamps, SIZE, samples, seed=1)
        maps = {name: getattr(shot, name) for name in MAPS}
        (out / f"stage-{lamps}.st.zst").write_bytes(pack(Shard(shot.olat, maps, {"fov": subject.fov})))
    for path in hdris:
        channels = read_exr(path)[0].channels
        full = np.stack([channels[c] for c in "RGB"], -1).astype(np.float32)
        env = cv2.resize(full, (128, 64), interpolation=cv2.INTER_AREA)
        np.save(out / f"{path.stem}-env.npy", env)
        np.save(out / f"{path.stem}.npy", photograph_under(subject, env, SIZE, 192, seed=1)[..., :3])
        if path is hdris[0]:
            np.save(out / "held-env.npy", held(env, COARSE))
            np.save(
                out / "held.npy", photograph_under(subject, held(env, COARSE), SIZE, 128, seed=1)[..., :3]
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
    sys.stdout.flush()
    os._exit(0)
