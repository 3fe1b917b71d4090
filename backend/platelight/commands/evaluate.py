"""``platelight evaluate``: a table of measures for each suite."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

from platelight.commands.work import bar
from platelight.images.atomic import write_bytes
from platelight.images.sanitize import Pixels
from platelight.pipeline.evaluate import (
    MEASURES,
    SuiteReport,
    as_json,
    evaluate,
    find_suites,
    load_suite,
    pipeline_decompose,
    pipeline_relight,
)
from platelight.pipeline.sheets import write_sheet


def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    suites = find_suites(parsed.suites)
    for suite in suites:
        load_suite(suite)  # a broken description is told before the first network is loaded
    from platelight.models import precision
    from platelight.pipeline import service

    precision.only_float32(parsed.float32)
    service.configure(parsed.device, parsed.threads, Path(parsed.weights) if parsed.weights else None)
    service.choose_engine(parsed.networks)
    reports = []
    with bar(len(suites)) as begin:
        for number, suite in enumerate(suites):
            name = suite.parent.name if suite.name == "suite.json" else suite.name

            def seen(case: str, pictures: Mapping[str, Pixels], name: str = name) -> None:
                if parsed.sheets:
                    write_sheet(Path(parsed.sheets) / f"{name}_{case}.png", pictures)

            decomposer = functools.partial(pipeline_decompose, faces=parsed.faces)
            relighter = functools.partial(pipeline_relight, shadows=parsed.shadows)
            reports.append(evaluate(suite, decomposer, relighter, parsed.limit, begin(number, name), seen))
    for report in reports:
        print_report(report)
    if parsed.json:
        write_bytes(parsed.json, as_json(reports))
    return 0


def print_report(report: SuiteReport) -> None:
    """Print one table a kind of measure: a row a case, the mean last, what no network would reach beside ours."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind, prefixes in (
        ("normals", ("normal",)),
        ("albedo", ("albedo",)),
        ("finish and light", ("roughness", "f0", "light")),
        ("relit", ("relit", "pbr")),
    ):
        names = [name for name in MEASURES if name.startswith(prefixes) and name in report.mean]
        if not names:
            continue
        table = Table(title=f"{report.name}: {kind}", title_justify="left")
        table.add_column("case")
        for name in names:
            table.add_column(MEASURES[name], justify="right")
        for case in report.cases:
            if names[0] in case.measures:
                table.add_row(case.id, *(_cell(name, case.measures[name]) for name in names))
        table.add_section()
        table.add_row("mean", *(_cell(name, report.mean[name]) for name in names), style="bold")
        console.print(table)


def _cell(name: str, value: float) -> str:
    if "under" in name:
        return f"{100 * value:.1f} %"
    return (
        f"{value:.4f}"
        if name.endswith("mse")
        else f"{value:.3f}"
        if name.endswith("ssim")
        else f"{value:.2f}"
    )
