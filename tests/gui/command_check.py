"""What ``blender --command platelight`` must have left in the folder that ``run.sh`` gave it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from platelight.images.exr import read_exr


def main(folder: Path) -> None:
    """Raise AssertionError where something is missing or of another brightness than its light says."""
    stems = [f"shot.{number}" for number in (1001, 1002, 1003)]

    def report(name: str) -> dict[str, list[object]]:
        found: dict[str, list[object]] = json.loads((folder / f"{name}.json").read_text())
        return found

    assert report("relit")["done"] == stems
    assert report("again")["skipped"] == stems
    partly = report("partly")
    assert (partly["skipped"], [one["number"] for one in partly["failed"]]) == (stems, [1004]), partly  # type: ignore[index]
    made = {path.name for path in (folder / "relit").glob("*.exr")}
    assert made == {f"{stem}.{kind}.exr" for stem in stems for kind in ("maps", "light", "relit")}, made

    assert report("rendered")["done"] == stems

    def brightness(number: int) -> float:
        planes = read_exr(folder / "rendered" / f"shot.{number}.relit.exr")[0].channels
        inside = planes["A"].astype(np.float32) > 0.9
        assert inside.any()
        return float(np.mean([planes[name].astype(np.float32)[inside].mean() for name in "RGB"]))

    one, three = brightness(1001), brightness(1003)
    assert one > 0.001
    assert abs(three / one / 4 - 1) < 0.15, (one, three)  # keyed two stops apart
    print("GUI done: blender --command platelight relight and render")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
