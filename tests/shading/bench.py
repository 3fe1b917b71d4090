"""Seconds of the fast integrator: a new light, a turned one, a changed exposure, and pictures from maps alone.

    python tests/shading/bench.py [LIGHT] [--threads N]

Prints wall and processor time of each, the better of two runs, and its ratio to the copy of the picture's maps and
result in the same run (the bound of memory traffic). On a machine that does other work the processor time is the one
that means something: divided by the threads, it is what a free machine takes at best.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from platelight.shading import environment, integrate, lobes
from shading_scenes import load_exr, studio_lights
from torch import Tensor

SIZES = {"960x540": (540, 960), "1080p": (1080, 1920)}


def timed(name: str, run: Callable[[], object], runs: int = 2, bound: float = 0.0) -> float:
    best = (float("inf"), float("inf"))
    for _ in range(runs):
        start, own = time.perf_counter(), time.process_time()
        run()
        best = min(best, (time.process_time() - own, time.perf_counter() - start))
    ratio = f"   {best[0] / bound:6.1f} x the copy" if bound else ""
    print(f"{name:44} {best[1]:7.3f} s wall {best[0]:7.3f} s processor{ratio}", flush=True)
    return best[0]


def plate(h: int, w: int) -> tuple[Tensor, ...]:
    """A rough ball in front of the camera over the whole frame, roughness 0.3 to 0.7 in soft patches."""
    view = integrate.view_directions(h, w, 40.0)[None]
    y, x = torch.meshgrid(torch.linspace(-0.7, 0.7, h), torch.linspace(-0.7, 0.7, w), indexing="ij")
    bumps = 0.2 * torch.sin(40.0 * x) * torch.cos(31.0 * y)
    normal = torch.stack((x + bumps, -y, (1.0 - x * x - y * y).clamp_min(0.0).sqrt() + 0.05))[None]
    normal = normal / normal.norm(dim=1, keepdim=True)
    roughness = (0.5 + 0.2 * torch.sin(9.0 * x) * torch.sin(7.0 * y))[None, None]
    return normal, torch.full_like(normal, 0.5), roughness, torch.full_like(roughness, 0.04), view


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("light", nargs="?", default="studio", choices=sorted(studio_lights()))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    env = environment.resize(load_exr(studio_lights()[given.light]), 512)
    maps = {name: plate(*size) for name, size in SIZES.items()}
    first = maps["960x540"]

    def fresh(scale: float) -> None:
        light = integrate.prefilter(env * scale)
        light.specular[0].rows(0, lobes.LEVELS - 1)

    def shade(light: integrate.PrefilteredLight, name: str) -> None:
        integrate.shade(light, *maps[name], layered=True)

    scale = iter(1.0 + 0.01 * k for k in range(1, 99))
    degrees = iter(range(10, 350, 7))
    small = plate(2, 64)
    timed("kernels and a light, r 0.3 to 0.7", lambda: integrate.shade(integrate.prefilter(env), *small), 1)
    timed(
        "a new light, r 0.3 to 0.7", lambda: integrate.shade(integrate.prefilter(env * next(scale)), *small)
    )
    timed("kernels and a light, all levels", lambda: fresh(next(scale)), 1)
    timed("a new light, all levels", lambda: fresh(next(scale)))
    light = integrate.prefilter(env)
    for name in SIZES:
        bound = timed(
            f"{name}: copy", lambda n=name: [m.clone() for m in (*maps[n], maps[n][0], maps[n][0])], 5
        )  # type: ignore[misc]
        timed(f"{name}: picture from maps", lambda n=name: shade(light, n), 2, bound)  # type: ignore[misc]
    timed("960x540: exposure changed", lambda: shade(light.exposed(1.0), "960x540"))
    timed("960x540: light turned", lambda: shade(light.rotated(float(next(degrees))), "960x540"))
    timed("960x540: a new light", lambda: integrate.shade(integrate.prefilter(env * next(scale)), *first))


if __name__ == "__main__":
    main()
