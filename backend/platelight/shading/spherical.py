"""Real spherical harmonics up to order 4, and irradiance from them.

The basis is the usual real, orthonormal one without the Condon-Shortley phase, with the polar axis along
the camera's +Z; coefficient (l, m) has index ``l² + l + m``. Irradiance follows Ramamoorthi and Hanrahan,
"An Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001: E_lm = A_l L_lm. Order 2 is
within about 1 % on average of the exact irradiance for natural light, and order 4 nearer, but neither
bounds the error under a small bright lamp: :mod:`.integrate` uses an exactly filtered map instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from platelight.protocol.errors import InputError
from platelight.shading import environment

MAX_ORDER = 4
_COSINE = (math.pi, 2.0 * math.pi / 3.0, math.pi / 4.0, 0.0, -math.pi / 24.0)
"""A_l of the clamped cosine, for l = 0 to 4 (Ramamoorthi and Hanrahan 2001, eq. 8)."""


def basis(dirs: Tensor, order: int) -> Tensor:
    """Y_lm at unit directions ``(..., 3)``: ``(..., (order + 1)²)``."""
    if not 0 <= order <= MAX_ORDER:
        raise InputError(f"Spherical harmonics of order {order} are not there.", "Use an order of 0 to 4.")
    x, y, z = dirs.unbind(-1)
    one = torch.ones_like(z)
    # Associated Legendre polynomials divided by sin^m, so that (x, y) carry the azimuth without angles.
    legendre: dict[tuple[int, int], Tensor] = {}
    for m in range(order + 1):
        legendre[m, m] = one * float(math.prod(range(1, 2 * m, 2)))
        for degree in range(m + 1, order + 1):
            before = legendre.get((degree - 2, m), torch.zeros_like(z))
            rise = (2 * degree - 1) * z * legendre[degree - 1, m] - (degree + m - 1) * before
            legendre[degree, m] = rise / (degree - m)
    cosine, sine = [one], [torch.zeros_like(z)]
    for _ in range(order):
        cosine, sine = (
            [*cosine, x * cosine[-1] - y * sine[-1]],
            [*sine, x * sine[-1] + y * cosine[-1]],
        )
    values = []
    for degree in range(order + 1):
        for m in range(-degree, degree + 1):
            k = abs(m)
            norm = (
                (2 * degree + 1) / (4.0 * math.pi) * math.factorial(degree - k) / math.factorial(degree + k)
            )
            azimuth = sine[k] if m < 0 else cosine[k]
            values.append(math.sqrt(norm * (1.0 if m == 0 else 2.0)) * legendre[degree, k] * azimuth)
    return torch.stack(values, dim=-1)


def project(env: Tensor, order: int = MAX_ORDER) -> Tensor:
    """Coefficients ``(N, C, (order + 1)²)`` of an environment ``(N, C, h, 2h)``."""
    h = environment.check(env)
    y = basis(environment.directions(h, env.device, torch.float64), order)
    weighted = y * environment.solid_angles(h, env.device, torch.float64)[..., None]
    return torch.einsum("nchw,hwk->nck", env, weighted.to(env.dtype))


def evaluate(coefficients: Tensor, dirs: Tensor) -> Tensor:
    """Radiance ``(N, C, H, W)`` of coefficients ``(N, C, K)`` at unit ``dirs (N or 1, 3, H, W)``."""
    order = math.isqrt(coefficients.shape[-1]) - 1
    return torch.einsum(
        "nck,nhwk->nchw", coefficients, _spread(basis(dirs.movedim(1, -1), order), coefficients)
    )


def irradiance(coefficients: Tensor, normal: Tensor) -> Tensor:
    """Irradiance ``(N, C, H, W)`` (π for a uniform light of 1) at unit normals ``(N or 1, 3, H, W)``."""
    order = math.isqrt(coefficients.shape[-1]) - 1
    bands = [_COSINE[degree] for degree in range(order + 1) for _ in range(2 * degree + 1)]
    return evaluate(coefficients * coefficients.new_tensor(bands), normal)


def _spread(values: Tensor, coefficients: Tensor) -> Tensor:
    return values.expand(coefficients.shape[0], -1, -1, -1)
