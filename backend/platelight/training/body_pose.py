"""Poses of a body: joints turned so that it stands, sits, leans, lifts and bends its arms, and curls its fingers."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from platelight.training.subjects import Array, Rng, euler

SIDES = ("L", "R")


def turns(place: dict[str, Array], rng: Rng) -> dict[str, Array]:
    """Rotations (3, 3) of joints in the axes of the data's pose: a body that stands, sits, leans, lifts and bends its arms."""

    def some(yaw: float, pitch: float, roll: float) -> Array:
        return euler(*(float(rng.normal() * s) for s in (yaw, pitch, roll)))

    turned = {f"spine0{k}": some(5, 4, 3) for k in (1, 2, 3, 4)}
    turned |= {f"neck0{k}": some(7, 5, 3) for k in (1, 2, 3)}
    turned |= {"head": some(7, 6, 4), "jaw": euler(0, float(rng.uniform(0, 6)), 0)}
    gaze = some(12, 6, 0)
    sits = rng.random() < 0.3
    front = np.array([0.0, 0, 1])
    for side, out in zip(SIDES, (1.0, -1.0), strict=True):
        turned[f"eye.{side}"] = gaze
        arm = place[f"lowerarm01.{side}"] - place[f"upperarm01.{side}"]
        if rng.random() < 0.12:  # lifted
            aim = np.array([out * rng.uniform(0.2, 1), rng.uniform(0, 1), rng.normal() * 0.5])
        else:
            aim = np.array([out * rng.uniform(0.05, 0.7), -rng.uniform(0.5, 1.2), rng.normal(0.15, 0.35)])
        turned[f"upperarm01.{side}"] = _towards(arm, aim) @ _about(arm, float(rng.normal() * 25))
        lower = place[f"wrist.{side}"] - place[f"lowerarm01.{side}"]
        bend = 130 * float(rng.random()) ** 1.5
        turned[f"lowerarm01.{side}"] = _about(np.cross(lower, front), bend) @ _about(
            lower, float(rng.normal() * 30)
        )
        turned[f"wrist.{side}"] = some(12, 12, 12)
        turned |= _fingers(place, side, rng)
        leg = place[f"lowerleg01.{side}"] - place[f"upperleg01.{side}"]
        swing = float(rng.uniform(70, 100) if sits else rng.normal() * 12)
        turned[f"upperleg01.{side}"] = _about(np.cross(leg, front), swing) @ euler(
            0, 0, out * float(rng.uniform(-3, 12))
        )
        shin = place[f"foot.{side}"] - place[f"lowerleg01.{side}"]
        knee = float(rng.uniform(60, 100) if sits else rng.uniform(0, 25))
        turned[f"lowerleg01.{side}"] = _about(np.cross(shin, -front), knee)
    return turned


def _fingers(place: dict[str, Array], side: str, rng: Rng) -> dict[str, Array]:
    """Fingers curled towards the palm, more or less together."""
    wrist = place[f"wrist.{side}"]
    palm = np.cross(place[f"finger2-1.{side}"] - wrist, place[f"finger5-1.{side}"] - wrist)
    palm = palm if palm[1] < 0 else -palm
    curl = 75 * float(rng.random()) ** 1.5
    turns = {}
    for finger in range(1, 6):
        amount = curl * (0.5 if finger == 1 else 1.0)
        for k in (1, 2, 3):
            way = (
                place[f"finger{finger}-{min(k + 1, 3)}.{side}"] - place[f"finger{finger}-{min(k, 2)}.{side}"]
            )
            bend = float(np.clip(amount + rng.normal() * 10, -8, 90))
            turns[f"finger{finger}-{k}.{side}"] = _about(np.cross(way, palm), bend)
    return turns


def _towards(before: Array, after: Array) -> Array:
    """The least rotation (3, 3) that brings one direction to another."""
    a, b = before / np.linalg.norm(before), after / np.linalg.norm(after)
    axis = np.cross(a, b)
    return _about(axis, float(np.degrees(np.arctan2(np.linalg.norm(axis), a @ b))))


def _about(axis: Array, degrees: float) -> Array:
    unit = axis / max(float(np.linalg.norm(axis)), 1e-9)
    return np.asarray(Rotation.from_rotvec(unit * np.radians(degrees)).as_matrix())
