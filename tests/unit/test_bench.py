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
    assert report["peak_mib"] >= report["idle_mib"] > 50
    assert report["operations"] > 1e8
    assert set(report["light_changes"]) == {"exposure", "rotation", "hdri"}
    for spent in report["light_changes"].values():
        assert 0 < spent["least"] <= spent["median"] < 60
    assert 0 < report["convolution_seconds"] < 60


def test_growth_is_the_exponent() -> None:
    jobs = ("decompose, warm", "relight, warm", "physical render alone, warm")
    reports = [
        {"pixels": n, "peak_mib": 100 + 3e-3 * n, "idle_mib": 100,
         "runs": {job: {"total": 1e-6 * n**power} for job, power in zip(jobs, (1.0, 0.5, 1.1), strict=True)}}
        for n in (1e5, 4e5, 1.6e6)
    ]  # fmt: skip
    assert list(bench.growth(reports).values()) == pytest.approx([1.0, 0.5, 1.1, 1.0])
