"""``platelight status``: what a server is doing, as a table, as JSON, or as metrics for Prometheus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from platelight.client import Client
from platelight.commands.options import Parser
from platelight.protocol.errors import InputError
from platelight.protocol.messages import JobState, Report

if TYPE_CHECKING:
    from rich.console import RenderableType

MIB = 1024.0**2


def build_parser() -> Parser:
    """The parser of the command."""
    parser = Parser(prog="platelight status", description="Show what a server is doing.")
    parser.add_argument("--server", metavar="ENDPOINT", help="which server; without it the one running here")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="print the whole report as JSON")
    style.add_argument("--prometheus", action="store_true", help="print metrics in Prometheus's text format")
    parser.add_argument(
        "--watch", metavar="SECONDS", type=float, help="show the table again and again, until Ctrl-C"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Print the report of one server; returns the exit code.

    Raises:
        PlatelightError: no server answers, or it does not let this client in.
    """
    from rich.console import Console
    from rich.live import Live

    parsed = build_parser().parse_args(argv)
    watch = parsed.watch
    if watch is not None and not (math.isfinite(watch) and watch >= 0.1):
        raise InputError(f"--watch {watch:g} is no number of seconds.", "Give 0.1 or more.")
    with Client(None if parsed.server in (None, "local") else parsed.server) as client:
        report = client.status()
        if parsed.json:
            print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
        elif parsed.prometheus:
            print(prometheus_text(report), end="")
        elif watch is None:
            Console().print(table(report))
        else:
            import time

            with Live(table(report), auto_refresh=False) as live:
                while True:
                    time.sleep(watch)
                    live.update(table(client.status()), refresh=True)
    return 0


def table(report: Report) -> RenderableType:
    """The report for people."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    totals, rates = report.totals, report.rates
    server = Table(title=report.software + (" (stopping)" if report.draining else ""), show_header=False)
    running = report.jobs.get(JobState.RUNNING, 0) + report.jobs.get(JobState.LEASED, 0)
    kept = ", ".join(f"{count} {state}" for state, count in sorted(report.jobs.items()) if state.final)
    for name, value in (
        ("up", _span(report.uptime)),
        ("queue", f"{report.waiting} waiting, {running} running"),
        ("kept", kept or "no results"),
        ("rates", f"{rates.jobs_per_minute:.1f} jobs/min, {rates.job_seconds:.2f} s a job"),
        (
            "traffic",
            f"{rates.bytes_in_per_second / MIB:.1f} MiB/s in, {rates.bytes_out_per_second / MIB:.1f} MiB/s out",
        ),
        ("store", f"{report.stored / MIB:.0f} of {report.quota / MIB:.0f} MiB"),
        ("broker", f"{report.memory / MIB:.0f} MiB, {report.clients} clients"),
        (
            "since start",
            f"{totals.submitted} submitted, {totals.executions} runs, {totals.done} done, {totals.failed} failed, "
            f"{totals.cancelled} cancelled, {totals.refused} refused, {totals.workers_lost} workers lost",
        ),
    ):
        server.add_row(name, value)
    workers = Table("worker", "device", "state", "memory", "pid", "job")
    for one in report.workers:
        memory = f"{one.memory / MIB:.0f} MiB"
        workers.add_row(
            *(escape(text) for text in (one.name, one.device, one.state, memory, str(one.pid or ""), one.job))
        )
    return Group(server, workers)


def prometheus_text(report: Report) -> str:
    """The report as metrics; counters begin at 0 with each start of the server."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float) -> None:
        Gauge(f"platelight_{name}", text, registry=registry).set(value)

    gauge("uptime_seconds", "Time since the server's start.", report.uptime)
    gauge("clients", "Clients with a session.", report.clients)
    gauge("jobs_waiting", "Jobs in the queue.", report.waiting)
    gauge("stored_bytes", "Planes that jobs refer to.", report.stored)
    gauge("quota_bytes", "Room for planes.", report.quota)
    gauge("broker_memory_bytes", "Resident memory of the broker.", report.memory)
    gauge("draining", "1 while the server is stopping.", report.draining)
    gauge("job_duration_seconds", "Running mean of the time that a job takes.", report.rates.job_seconds)
    jobs = Gauge("platelight_jobs", "Jobs in the store.", ["state"], registry=registry)
    for state in JobState:
        jobs.labels(state.value).set(report.jobs.get(state, 0))
    names = ["worker", "device", "state"]
    workers = Gauge("platelight_worker_memory_bytes", "Resident memory.", names, registry=registry)
    for one in report.workers:
        workers.labels(one.name, one.device, one.state).set(one.memory)
    for name, value in msgspec.structs.asdict(report.totals).items():
        Counter(f"platelight_{name}", f"{name.replace('_', ' ').capitalize()}.", registry=registry).inc(value)
    lines = generate_latest(registry).decode().splitlines(keepends=True)
    return "".join(
        line for line in lines if "_created" not in line
    )  # the time of this call, not of the server


def _span(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
