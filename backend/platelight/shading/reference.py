"""The reference integrator: the rendering equation summed over every texel of the environment.

``Lo(v) = ∫ (fd + fs) L(l) (n·l) dl`` with ``fd = σ/π`` and ``fs`` of :mod:`.brdf`, each texel a small
light in its center with its exact solid angle. Slow and exact: what :mod:`.integrate` is measured with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from platelight.shading import brdf, environment

MIN_NV = 0.01
"""Normals that look away from the viewer are bent to this n·v: a visible pixel has a visible facet."""


@dataclass(frozen=True)
class Shading:
    """Outgoing linear radiance ``(N, C, H, W)`` by lobe; their sum is the PBR render."""

    diffuse: Tensor
    specular: Tensor

    @property
    def total(self) -> Tensor:
        """Diffuse plus specular."""
        return self.diffuse + self.specular


def facing(normal: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals bent towards the viewer where n·v < :data:`MIN_NV`, and their n·v.

    Args:
        normal, view: unit vectors ``(N or 1, 3, H, W)``.

    Returns:
        normals ``(N, 3, H, W)`` and n·v ``(N, 1, H, W)``.
    """
    nv = (normal * view).sum(1, keepdim=True)
    bent = normal + (MIN_NV - nv).clamp_min(0.0) * view
    bent = bent / bent.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    return bent, nv.clamp(MIN_NV, 1.0)


def view_directions(
    h: int,
    w: int,
    fov_degrees: float,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    rows: tuple[int, int] | None = None,
) -> Tensor:
    """Unit vectors ``(3, h, w)`` from the surface to the camera, through the pixels' centers.

    Args:
        h, w: size of the frame in pixels, which are square.
        fov_degrees: horizontal field of view; 0 is an orthographic camera.
        rows: first row and end of the part that is wanted, of the whole where None.
    """
    top, bottom = rows or (0, h)
    out = torch.zeros(3, bottom - top, w, device=device, dtype=dtype)
    out[2] = 1.0
    if fov_degrees <= 0.0:
        return out
    half = math.tan(math.radians(fov_degrees) / 2.0)
    x = ((torch.arange(w, device=device, dtype=dtype) + 0.5) / w * 2.0 - 1.0) * half
    y = (1.0 - (torch.arange(top, bottom, device=device, dtype=dtype) + 0.5) / h * 2.0) * (half * h / w)
    out[0] = -x[None, :]
    out[1] = -y[:, None]
    return out / out.square().sum(0, keepdim=True).sqrt()


def integrate(
    env: Tensor,
    normal: Tensor,
    albedo: Tensor,
    roughness: Tensor,
    f0: Tensor,
    view: Tensor,
    chunk: int = 1 << 22,
) -> Shading:
    """Diffuse and specular radiance under an environment, over every texel; differentiable in all maps.

    Args:
        env: ``(N or 1, C, h, 2h)`` linear radiance.
        normal: ``(N, 3, H, W)`` unit, camera space.
        albedo: ``(N, C or 1, H, W)`` linear.
        roughness: ``(N, 1, H, W)`` perceptual.
        f0: ``(N, 1 or C, H, W)`` reflectance at normal incidence.
        view: ``(3, H, W)`` or ``(N or 1, 3, H, W)`` unit vectors to the camera.
        chunk: pixels times texels that are in memory at once.
    """
    n, _, height, width = normal.shape
    h = environment.check(env)
    view = view if view.ndim == 4 else view[None]
    bent, nv = facing(normal, view)
    alpha = brdf.alpha_from_roughness(roughness)
    dirs = environment.directions(h, env.device, env.dtype).reshape(-1, 3)
    power = (env * environment.solid_angles(h, env.device, env.dtype)).flatten(2)
    pixels = max(1, chunk // dirs.shape[0])
    diffuse, specular = [], []
    for i in range(n):
        light = power[i % env.shape[0]].T
        maps = [m[i % m.shape[0]].flatten(1).T for m in (normal, bent, view, nv, alpha)]
        parts = []
        for start in range(0, height * width, pixels):
            piece = [m[start : start + pixels] for m in maps]
            if torch.is_grad_enabled() and any(t.requires_grad for t in (*piece, light)):
                parts.append(checkpoint(_lobes, dirs, light, *piece, use_reentrant=False))
            else:
                parts.append(_lobes(dirs, light, *piece))
        lambert, white, edge = (torch.cat(p).T.reshape(-1, height, width) for p in zip(*parts, strict=True))
        diffuse.append(lambert / math.pi)
        specular.append(edge + f0[i % f0.shape[0]] * (white - edge))
    return Shading(torch.stack(diffuse) * albedo, torch.stack(specular))


def _lobes(
    dirs: Tensor, light: Tensor, normal: Tensor, bent: Tensor, view: Tensor, nv: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """∫ L n·l, and the specular integral for F = 1 and for F = (1 - l·h)⁵: each (pixels, C)."""
    diffuse = (normal @ dirs.T).clamp_min(0.0) @ light
    nl, lv = bent @ dirs.T, view @ dirs.T
    half = (2.0 + 2.0 * lv).clamp_min(1e-8).sqrt()
    lobe = brdf.ggx_distribution((nl + nv) / half, alpha) * brdf.smith_visibility(nl, nv, alpha)
    lobe = lobe * nl.clamp_min(0.0)
    return diffuse, lobe @ light, (lobe * brdf.schlick_weight(0.5 * half)) @ light
