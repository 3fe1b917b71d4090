"""Compose the Cook-Torrance lobe of round ones: makes ``lobes.npz``, which the instant preview's shader reads.

    python shaders/glsl/fit_lobes.py [--steps 9000] [--rate 0.004] [--fresh] [-o shaders/glsl/lobes.npz]

For a view at angle θ from the normal and a roughness, D V n·l as a function of l is approximated by a sum of the round lobes K of
``blender_addon/prefilter.py``: ``SINGLES`` in the plane of incidence, ``PAIRS`` mirrored at it, and the four that end at the
horizon of the normal. Place, width and weights of each stand in a table over log(1 + n·v / BEND) and log roughness, and are
descended to (Adam) such that the mean absolute error over the sphere, as a share of the lobe's energy, is least: that bounds the
error under any light. Tables are interpolated while fitting as they are in the shader, levels of the light too. Without ``--fresh``
it goes on from the table that is there; the one that ships took about 56 000 steps over several runs with falling rates,
the last of them with half of their samples below roughness 0.32.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import types
from pathlib import Path

import numpy as np
import torch
from platelight.shading import brdf, sampling
from torch import Tensor

HERE = Path(__file__).resolve().parent
_package = types.ModuleType("platelight_fit")
_package.__path__ = [str(HERE.parents[1] / "blender_addon")]
sys.modules["platelight_fit"] = _package
prefilter = importlib.import_module("platelight_fit.prefilter")

SINGLES, PAIRS = 14, 4
ANGLES, ROUGHNESSES, BEND, LEAST = 32, 16, 0.05, 0.1
LEVELS = len(prefilter.ALPHAS)
WIDTHS = torch.tensor(prefilter.ALPHAS).square()


def _factors() -> tuple[Tensor, Tensor]:
    """What makes the integral of each K, and of each lobe that ends at the horizon, 1."""
    x = 1.0 - 2.0 * np.linspace(0.0, 1.0, 40001) ** 4
    above = np.maximum(x, 0.0)
    shapes = [prefilter.lobe(x, alpha) for alpha in prefilter.ALPHAS]
    shapes += [above] + [above / (above + c) for c in prefilter.HORIZONS]
    middle = np.diff(-x) / 2
    sums = [2.0 * math.pi * float(((s[1:] + s[:-1]) * middle).sum()) for s in shapes]
    factors = 1.0 / torch.tensor(sums, dtype=torch.float32)
    return factors[:LEVELS], factors[LEVELS:]


ROUND, HORIZON = _factors()


def round_lobes(cosine: Tensor, level: Tensor) -> Tensor:
    """K at fractional levels ``(B, J)``, mixed as the shader mixes tiles; ``cosine (B, S, J)``."""
    low = level.floor().long()
    share = (level - low)[:, None]
    near, far = 1.0 + cosine, (1.0 - cosine).clamp_min(0.0)
    value = torch.zeros_like(cosine)
    for index, part in ((low, 1.0 - share), (low + 1, share)):
        inner = WIDTHS[index][:, None] * near
        value = value + part * ROUND[index][:, None] * (inner / (inner + far)).square()
    return value


def horizon_lobes(nl: Tensor) -> Tensor:
    """The lobes that end at the horizon ``(B, S, 4)``."""
    nl = nl.clamp_min(0.0)
    return torch.stack([nl, *(nl / (nl + c) for c in prefilter.HORIZONS)], -1) * HORIZON


def draw(nv: Tensor, alpha: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Directions ``(B, S, 3)`` about the lobe and everywhere, and their density; n is +Z, v lies towards +X."""
    sv = (1.0 - nv * nv).clamp_min(0.0).sqrt()
    steps = torch.tensor([0.8191725134, 0.6710436067, 0.5497004779])  # R3 sequence, shifted at random
    u = (torch.rand(nv.shape[0], 1, 3) + torch.arange(count)[None, :, None] * steps) % 1.0
    wide = (2.0 * alpha).clamp_max(1.5)
    a = torch.where(u[..., 2] < 0.5, alpha, wide)
    norm = (a * a * sv * sv + nv * nv).rsqrt()  # visible normals: Heitz 2018, as sampling.visible_lobe
    vx, vz = a * sv * norm, nv * norm
    t1 = u[..., 0].sqrt() * torch.cos(2.0 * math.pi * u[..., 1])
    s = 0.5 * (1.0 + vz)
    t2 = (1.0 - s) * (1.0 - t1 * t1).clamp_min(0.0).sqrt() + s * u[..., 0].sqrt() * torch.sin(
        2.0 * math.pi * u[..., 1]
    )
    t3 = (1.0 - t1 * t1 - t2 * t2).clamp_min(0.0).sqrt()
    h = torch.stack((a * (t3 * vx - t2 * vz), a * t1, (t2 * vx + t3 * vz).clamp_min(1e-7)), -1)
    h = h / h.norm(dim=-1, keepdim=True)
    view = torch.stack((sv, torch.zeros_like(sv), nv), -1)
    out = 2.0 * (h * view).sum(-1, keepdim=True).clamp_min(0.0) * h - view
    z = 2.0 * u[..., 0] - 1.0
    ring = (1.0 - z * z).clamp_min(0.0).sqrt()
    angle = 2.0 * math.pi * u[..., 1]
    anywhere = torch.stack((ring * angle.cos(), ring * angle.sin(), z), -1)
    out = torch.where((u[..., 2] > 0.8)[..., None], anywhere, out)
    h = out + view
    h = h / h.norm(dim=-1, keepdim=True).clamp_min(1e-4)

    def density(a: Tensor) -> Tensor:
        a2 = a * a
        sheared = h[..., 0] ** 2 + h[..., 1] ** 2 + a2 * h[..., 2] ** 2
        return (
            a2 / (math.pi * sheared**2) / (2.0 * (nv + (a2 + (1.0 - a2) * nv * nv).sqrt())) * (h[..., 2] > 0)
        )

    return out, 0.5 * density(alpha) + 0.3 * density(wide) + 0.2 / (4.0 * math.pi)


def wanted(nv: Tensor, alpha: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """D V n·l for F = 1 and for F = (1 - l·h)⁵."""
    nl = light[..., 2]
    half = (
        (2.0 + 2.0 * (light[..., 0] * (1.0 - nv * nv).clamp_min(0.0).sqrt() + nl * nv)).clamp_min(1e-8).sqrt()
    )
    lobe = brdf.ggx_distribution((nl + nv) / half, alpha) * brdf.smith_visibility(nl, nv, alpha)
    lobe = lobe * nl.clamp_min(0.0)
    return lobe, lobe * brdf.schlick_weight(0.5 * half)


class Fit(torch.nn.Module):
    """``places (R, A, J, 2)`` (offset from the mirror direction and in level), ``weights (R, A, J, 2)``, ``aside (R, A, PAIRS)``,
    ``around (R, A, 4, 2)``."""

    def __init__(self, stored: dict[str, np.ndarray] | None) -> None:
        super().__init__()
        shape = ROUGHNESSES, ANGLES
        if stored is None:
            taps = torch.zeros(*shape, SINGLES + PAIRS, 4)
            taps[..., :SINGLES, 0] = torch.linspace(-2.0, 1.6, SINGLES)
            taps[..., SINGLES:, 0] = torch.linspace(-1.0, 1.0, PAIRS)
            nv = BEND * torch.expm1(torch.linspace(0.0, 1.0, ANGLES) * math.log1p(1.0 / BEND))
            taps[..., 1] = (torch.log(nv.clamp_min(0.15)) * 0.7 / -math.log(prefilter.RATIO) - 0.5)[
                None, :, None
            ]
            taps[..., 2:] = 1.0 / (SINGLES + PAIRS)
            aside, around = torch.full((*shape, PAIRS), 0.7), torch.zeros(*shape, 4, 2)
        else:
            taps, aside, around = (torch.from_numpy(stored[n]).float() for n in ("taps", "aside", "around"))
        self.places = torch.nn.Parameter(taps[..., :2].clone())
        self.weights = torch.nn.Parameter(taps[..., 2:].clone())
        self.aside = torch.nn.Parameter(aside.clone())
        self.around = torch.nn.Parameter(around.clone())

    def forward(self, nv: Tensor, rough: Tensor, light: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of lobes at ``light (B, S, 3)``, for both F, ``(B, S, 2)``, and how far the weights are from 1."""
        x = torch.log1p(nv / BEND) / math.log1p(1.0 / BEND) * (ANGLES - 1)
        y = torch.log(rough / LEAST) / -math.log(LEAST) * (ROUGHNESSES - 1)
        places, weights, aside, around = (_read(t, x, y) for t in self.parameters())
        alpha = rough * rough
        theta, scale = torch.acos(nv)[:, None], 2.0 * alpha.clamp_max(0.5)[:, None]
        angle = scale * places[..., 0] - theta
        level = torch.log(alpha / prefilter.ALPHAS[0])[:, None] / -math.log(prefilter.RATIO) + places[..., 1]
        level = level.clamp(0.0, LEVELS - 1.001)
        along = light[..., 0:1] * angle.sin()[:, None] + light[..., 2:3] * angle.cos()[:, None]
        off = (scale * nv[:, None] * aside)[:, None]
        inner, outer = along[..., SINGLES:] * off.cos(), light[..., 1:2] * off.sin()
        pair_level = level[:, SINGLES:]
        lobes = torch.cat(
            (
                round_lobes(along[..., :SINGLES], level[:, :SINGLES]),
                0.5 * (round_lobes(inner + outer, pair_level) + round_lobes(inner - outer, pair_level)),
                horizon_lobes(light[..., 2]),
            ),
            -1,
        )
        shares = torch.cat((weights, around), 1)
        return lobes @ (shares * energy[:, None]), (shares.sum(1) - 1.0).abs().sum(1)


def _read(table: Tensor, x: Tensor, y: Tensor) -> Tensor:
    column, row = x.floor().clamp(0, ANGLES - 2).long(), y.floor().clamp(0, ROUGHNESSES - 2).long()
    fx, fy = ((v - i).reshape(-1, *(1,) * (table.ndim - 2)) for v, i in ((x, column), (y, row)))
    top = torch.lerp(table[row, column], table[row, column + 1], fx)
    return torch.lerp(top, torch.lerp(table[row + 1, column], table[row + 1, column + 1], fx), fy)


def errors(fit: Fit, nv: Tensor, rough: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean absolute error as a share of the energy, for F = 1 and for f0 = 0.04, and the weights' distance from 1."""
    alpha = (rough * rough)[:, None]
    light, density = draw(nv[:, None], alpha, count)
    energy = torch.stack(sampling.albedo_pair(nv, rough), -1)
    found, off = fit(nv, rough, light, energy)
    white, edge = wanted(nv[:, None], alpha, light)
    skin = 0.96 * (found[..., 1] - edge) + 0.04 * (found[..., 0] - white)
    return (
        ((found[..., 0] - white).abs() / density).mean(1) / energy[:, 0],
        (skin.abs() / density).mean(1) / (0.96 * energy[:, 1] + 0.04 * energy[:, 0]),
        off,
    )


def choose(count: int) -> tuple[Tensor, Tensor]:
    """n·v as a plate has it, and more at grazing angles; roughness mostly above 0.2."""
    nv, u = torch.rand(count).sqrt(), torch.rand(count)
    nv = torch.where(u < 0.4, BEND * torch.expm1(torch.rand(count) * math.log1p(1.0 / BEND)), nv)
    nv = torch.where(u > 0.97, torch.ones(()), nv).clamp(0.01, 0.999999)
    span = torch.where(torch.rand(count) < 0.6, 0.7 * torch.rand(count), 1.1 * torch.rand(count)) - 0.05
    return nv, LEAST ** span.clamp(0.0, 1.0)


def report(fit: Fit) -> None:
    """Print the errors."""
    angles = (0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.99)
    print("n·v     ", *(f"{nv:10}" for nv in angles))
    for rough in (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0):
        with torch.no_grad():
            pairs = (errors(fit, torch.full((16,), nv), torch.full((16,), rough), 4096)[:2] for nv in angles)
            print(
                f"r {rough:<6}",
                *(f"{100 * a.mean():5.1f}/{100 * b.mean():4.1f}" for a, b in pairs),
                flush=True,
            )


def save(fit: Fit, path: Path) -> None:
    """Write the table, and the energies that its weights are shares of."""
    side = torch.linspace(0.0, 1.0, 64)
    nv, rough = torch.meshgrid(side.square(), side, indexing="ij")
    planes = {
        "taps": torch.cat((fit.places, fit.weights), -1),
        "aside": fit.aside,
        "around": fit.around,
        "albedo": torch.stack(sampling.albedos(nv.contiguous(), rough.contiguous()), -1),
    }
    np.savez(
        path, bend=np.float64(BEND), **{k: v.detach().numpy().astype(np.float32) for k, v in planes.items()}
    )


def main() -> None:
    """Fit, report, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--rate", type=float, default=0.004)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("-o", type=Path, default=HERE / "lobes.npz", dest="path")
    options = parser.parse_args()
    torch.manual_seed(0)
    stored = None if options.fresh else dict(np.load(HERE / "lobes.npz"))
    fit = Fit(stored)
    # Weights are small beside places: the same step would shake them.
    slow = {"params": [fit.weights, fit.around], "part": 0.15}
    optimizer = torch.optim.Adam([{"params": [fit.places, fit.aside], "part": 1.0}, slow], betas=(0.9, 0.99))
    mean = 0.0
    for step in range(options.steps):
        rate = 2e-5 + 0.5 * options.rate * (1.0 + math.cos(math.pi * step / options.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["part"]
        white, skin, off = errors(fit, *choose(96), 192)
        loss = (white + skin + off).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = float(loss.detach()) if step == 0 else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 500 == 0:
            print(step, f"{mean:.4f}", flush=True)
    report(fit)
    save(fit, options.path)


if __name__ == "__main__":
    main()
