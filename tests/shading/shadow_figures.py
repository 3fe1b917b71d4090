"""``python tests/shading/shadow_figures.py SET``: shadows from depth against light-stage subjects, in decibels.

True maps, or with ``--own HDRI`` those that Platelight finds in the subject's picture under that light, are relit under
single lamps of the set and under HDRIs, with and without shadows, and compared with the subject's pictures (cast shadow,
interreflection and scattering in them). The pictures are noisy, so means over 4 x 4 pixels are compared: PSNR over blocks
inside the subject, after one scale, peak at the truth's 99.5th percentile. Means over subjects come last.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from platelight.images.plate import read_light
from platelight.images.sheet import Tile, contact_sheet
from platelight.pipeline import service
from platelight.pipeline.decompose import to_tensor
from platelight.pipeline.depth import integrate_normals
from platelight.pipeline.relight import physical
from platelight.pipeline.shadows import shadowed
from platelight.protocol.requests import Decompose
from platelight.shading import environment
from platelight.training.light_stage_lights import fibonacci, texel_directions
from platelight.training.light_stage_reader import StageReader, StageSubject
from torch import Tensor

BLOCK = 4
MAPS = ("normal", "albedo", "depth", "roughness", "reflectivity", "matte")
LAMPS = {
    "key": (-0.6, 0.5, 0.62), "side": (0.95, 0.2, 0.2), "top": (0.1, 0.95, 0.3),
    "rim": (0.8, 0.3, -0.52), "below": (-0.3, -0.7, 0.6),
}  # fmt: skip


def decibels(picture: Tensor, truth: Tensor, alpha: Tensor) -> float:
    """PSNR of pictures (1, 3, H, W), premultiplied, over blocks that the subject fills."""
    ours, theirs, cover = (F.avg_pool2d(x, BLOCK) for x in (picture, truth, alpha))
    keep = cover[0, 0] > 0.98
    a, b = ours[0][:, keep], theirs[0][:, keep]
    peak = torch.quantile(b.flatten(), 0.995)
    return -10.0 * math.log10(float((((a * b).sum() / (a * a).sum() * a - b) / peak).square().mean()))


def tile(name: str, picture: Tensor, gain: float) -> Tile:
    image = F.interpolate(picture, scale_factor=2, mode="bilinear") * gain
    return Tile(name, np.asarray(image[0].permute(1, 2, 0).numpy(), np.float32))


def true_maps(subject: StageSubject) -> dict[str, Tensor]:
    return {
        "normal": subject.normal[None], "albedo": subject.albedo[None], "depth": subject.depth[None],
        "roughness": subject.roughness[None].clamp(0.02, 1), "reflectivity": subject.f0[None],
        "matte": subject.alpha[None],
    }  # fmt: skip


def own_maps(subject: StageSubject, env: Tensor) -> dict[str, Tensor]:
    """What Platelight makes of the subject's picture under a light, its matte given."""
    alpha = subject.alpha[0].numpy()
    plate = (subject.relight(env)[0] / subject.alpha.clamp_min(0.02)).permute(1, 2, 0).numpy()
    request = Decompose(matte="given", fov=float(subject.info["fov"]))
    found = service.run_job(request, {"plate": np.ascontiguousarray(plate), "matte": alpha}).planes
    maps = {name: to_tensor(np.asarray(found[name], np.float32), subject.alpha.device) for name in MAPS}
    cavity = to_tensor(np.asarray(found["cavity"], np.float32), subject.alpha.device)
    return {**maps, "albedo": (maps["albedo"] * cavity).clamp(0.0, 1.0)}


def light_of(path: Path) -> Tensor:
    env = torch.from_numpy(np.asarray(read_light(path), np.float32)).permute(2, 0, 1)[None]
    return environment.resize(env, 64)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url")
    options.add_argument(
        "--light", type=Path, action="append", default=[], help="an HDRI; may be given again"
    )
    options.add_argument("--own", type=Path, help="an HDRI: maps are found in the picture under it")
    options.add_argument(
        "--true-depth", action="store_true", help="with --own: shadows are cast by the set's own depth"
    )
    options.add_argument(
        "--integrated", action="store_true", help="without --own: depth is integrated from the true normals"
    )
    options.add_argument(
        "--pick", type=int, nargs="*", help="numbers of subjects in the set; all where left out"
    )
    options.add_argument("--picture", type=Path, help="a sheet: truth, without shadows, with shadows")
    options.add_argument("--show", nargs="*", default=["top"], help="lights on the sheet")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    reader = StageReader(chosen.url)
    count = int(reader.manifest["lamps"])
    lamps = fibonacci(count)
    owner = np.argmax(texel_directions(64) @ lamps.T, 1).reshape(64, 128)
    rows = []
    gains: dict[str, list[tuple[float, float]]] = {}
    for index in chosen.pick or range(len(reader)):
        subject = reader.subject(index)
        alpha = subject.alpha[None]
        maps = true_maps(subject) if chosen.own is None else own_maps(subject, light_of(chosen.own))
        if chosen.true_depth:
            maps["depth"] = torch.where(maps["matte"] > 0.5, subject.depth[None], maps["depth"])
        if chosen.integrated and chosen.own is None:
            normal = subject.normal.permute(1, 2, 0).numpy()
            depth = integrate_normals(normal, subject.alpha[0].numpy(), float(subject.info["fov"]))
            maps["depth"] = torch.from_numpy(depth)[None, None]
        lights: dict[str, tuple[Tensor, Tensor]] = {}
        for name, way in LAMPS.items():
            lamp = int((lamps @ np.array(way)).argmax())
            cell = torch.from_numpy((owner == lamp).astype(np.float32)).expand(1, 3, -1, -1).contiguous()
            lights[name] = cell, subject.olat[lamp].float()[None]
        for path in chosen.light:
            env = light_of(path)
            lights[path.stem] = env, subject.relight(env)
        fov = float(subject.info["fov"])
        for name, (env, truth) in lights.items():
            passes = physical(maps, env, fov)
            plain = sum(passes) * alpha
            shaded = sum(shadowed(maps, env, fov, *passes)) * alpha
            one, two = (decibels(x, truth, alpha) for x in (plain, shaded))
            gains.setdefault(name, []).append((one, two))
            print(
                f"| {subject.info['family']} | {name} | {one:.2f} | {two:.2f} | {two - one:+.2f} |",
                flush=True,
            )
            if name in chosen.show:
                peak = torch.quantile(F.avg_pool2d(truth, BLOCK)[0], 0.99)
                gain = 0.8 / float(peak.clamp_min(1e-6))
                pictures = {"truth": truth, "off": plain, "on": shaded}
                rows.append([tile(f"{name}: {k}", v, gain) for k, v in pictures.items()])
    for name, pairs in gains.items():
        one, two = np.mean(pairs, 0)
        print(f"| mean of {len(pairs)} | {name} | {one:.2f} | {two:.2f} | {two - one:+.2f} |")
    if chosen.picture and rows:
        contact_sheet(chosen.picture, rows)


if __name__ == "__main__":
    main()
