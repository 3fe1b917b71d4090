"""The bench reports the pipeline's own stages and writes them down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from platelight.cli import main
from platelight.commands import bench


def test_stopwatch_books_time_to_the_stage_that_began() -> None:
    watch = bench.Stopwatch()
    watch(0.0, "a")
    watch(0.5, "b")
    watch(1.0, "done")
    assert list(watch.stages) == ["a", "b"]
    assert all(seconds >= 0 for seconds in watch.stages.values())


@pytest.mark.slow
def test_bench_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.SIZES, "540p", (135, 240))
    monkeypatch.setattr(bench, "sky", lambda: bench.np.ones((16, 32, 3), bench.np.float32))
    assert main(["bench", "--size", "540p", "--json", str(tmp_path / "b.json")]) == 0
    report = json.loads((tmp_path / "b.json").read_text())
    assert {"matting", "normals", "light", "albedo", "specular", "depth"} <= set(
        report["runs"]["decompose, warm"]
    )
    assert {"physical render", "refining"} <= set(report["runs"]["relight, warm"])
    assert report["peak_mib"] > 50
