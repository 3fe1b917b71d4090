"""Arithmetic on lights, without Blender."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def latlong(addon: Callable[[str], Any]) -> Any:
    return addon("latlong")


def sky(latlong: Any, height: int = 32) -> np.ndarray:
    way = latlong.directions(height)
    return np.stack([1.2 + way[..., 0], 1.2 + way[..., 1], 1.2 - way[..., 2]], -1).astype(np.float32)


def test_directions_follow_the_convention(latlong: Any) -> None:
    way = latlong.directions(64)
    assert way[31, 64] == pytest.approx([0.0, 0.0, -1.0], abs=0.05)  # the center is where the camera looks
    assert way[31, 96] == pytest.approx([1.0, 0.0, 0.0], abs=0.05)  # three quarters: screen right
    assert way[0, 10][1] > 0.99  # the top row is up
    assert latlong.solid_angles(64).sum() * 128 == pytest.approx(4 * math.pi, rel=1e-5)


def test_irradiance_of_an_even_light_is_pi(latlong: Any) -> None:
    normals = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert latlong.irradiance(np.ones((64, 128, 3), np.float32), normals) == pytest.approx(math.pi, rel=2e-3)


def test_card_strength_finds_the_unit(latlong: Any) -> None:
    light = sky(latlong)
    normal = np.random.default_rng(1).normal(size=(24, 24, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    albedo = np.random.default_rng(2).uniform(0.1, 0.8, (24, 24, 3)).astype(np.float32)
    plate = albedo * latlong.irradiance(light, normal.reshape(-1, 3)).reshape(24, 24, 3) / math.pi
    plate[:3] += 5.0  # highlights on an eighth of it
    matte = np.ones((24, 24), np.float32)
    assert latlong.card_strength(light * 0.25, plate, albedo, normal, matte) == pytest.approx(4.0, rel=0.02)
    with pytest.raises(latlong.InputError, match="black"):
        latlong.card_strength(light * 0.0, plate, albedo, normal, matte)
    with pytest.raises(latlong.InputError, match="matte"):
        latlong.card_strength(light, plate, albedo, normal, matte * 0.0)


def test_the_sun_is_taken_out_whole(latlong: Any) -> None:
    light = sky(latlong, 64)
    way = latlong.directions(64)
    toward = np.array([0.5, 0.7, -0.51])
    toward /= np.linalg.norm(toward)
    disk = np.arccos(np.clip(way @ toward, -1, 1)) < math.radians(6.0)
    light[disk] += np.array([900.0, 800.0, 500.0], np.float32)
    sun, rest = latlong.split_sun(light)
    weight = latlong.solid_angles(64)[..., None]
    assert np.degrees(np.arccos(np.dot(sun.direction, toward))) < 0.5
    assert math.degrees(sun.angle) == pytest.approx(12.0, rel=0.05)
    solid = 2 * math.pi * (1 - math.cos(math.radians(6.0)))
    assert np.array(sun.irradiance) == pytest.approx(np.array([900, 800, 500]) * solid, rel=0.05)
    total, left = (light * weight).sum(axis=(0, 1)), (rest * weight).sum(axis=(0, 1))
    assert left + np.array(sun.irradiance) == pytest.approx(total, rel=1e-5)
    assert rest.max() < 3.0
    with pytest.raises(latlong.InputError, match="No sun"):
        latlong.split_sun(sky(latlong, 64))


def test_turning_by_rotation_and_by_pitch(latlong: Any) -> None:
    light = sky(latlong, 64)
    same = np.eye(3, dtype=np.float32)
    assert latlong.turned(light, same, 90.0) == pytest.approx(np.roll(light, 32, axis=1), abs=0.02)
    # A camera that looks 30 degrees up sees the zenith 60 degrees above its center.
    angle = math.radians(30.0)
    c, s = math.cos(angle), math.sin(angle)
    axes = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
    pitched = latlong.turned(light, axes, 0.0)
    way = latlong.directions(64) @ axes.T
    assert pitched[..., 1] == pytest.approx(1.2 + way[..., 1], abs=0.03)


def test_a_small_sun_keeps_its_energy_while_it_turns(latlong: Any) -> None:
    light = np.zeros((64, 128, 3), np.float32)
    weight = latlong.solid_angles(64)[..., None]
    for row in (0, 3, 20, 33, 47):
        light[:] = 0.05
        light[row, 70] = 1000.0
        energy = float((light * weight).sum())
        for degrees in np.linspace(0.0, 40.0, 9):
            angle = math.radians(float(degrees))
            c, s = math.cos(angle), math.sin(angle)
            pitch = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
            roll = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
            seen = latlong.turned(light, pitch @ roll, 3.7 * float(degrees))
            assert float((seen * weight).sum()) == pytest.approx(energy, rel=0.01), (row, degrees)
            # The sun is where it is looked for: its direction through the rotation and back through the axes.
            turn = math.radians(3.7 * float(degrees))
            x, y, z = latlong.directions(64)[row, 70]
            at = np.array(
                [x * math.cos(turn) - z * math.sin(turn), y, z * math.cos(turn) + x * math.sin(turn)]
            )
            found = ((seen - 0.05) * weight * latlong.directions(64)).sum(axis=(0, 1))
            found /= np.linalg.norm(found)
            assert float(found @ (at @ pitch @ roll)) > math.cos(math.radians(1.5))
