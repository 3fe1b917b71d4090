"""The job engine, without Blender."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.alone


@pytest.fixture
def jobs(addon: Callable[[str], Any]) -> Any:
    return addon("jobs")


def drain(job: Any, seconds: float = 5.0) -> list[Any]:
    events: list[Any] = []
    until = time.monotonic() + seconds
    while job.active and time.monotonic() < until:
        events += job.step()
        time.sleep(0.002)
    return events


def test_done_is_the_last_event_and_progress_comes_before(jobs: Any) -> None:
    def work(reporter: Any) -> int:
        for part in range(5):
            reporter.progress(part / 5, f"part {part}")
            time.sleep(0.01)
        return 42

    job = jobs.Job("counting", work)
    job.start()
    events = drain(job)
    assert events[-1] == jobs.Done(42)
    assert all(isinstance(event, jobs.Progress) for event in events[:-1])
    assert len(events) > 1
    assert (job.state, job.fraction, job.active) == (jobs.JobState.DONE, 1.0, False)


def test_progress_is_latest_wins_within_one_step(jobs: Any) -> None:
    written = threading.Event()
    go = threading.Event()

    def work(reporter: Any) -> None:
        for part in range(100):
            reporter.progress(part / 100, str(part))
        written.set()
        go.wait(5)

    job = jobs.Job("flood", work)
    job.start()
    assert written.wait(5)
    assert job.step(budget=1.0) == [jobs.Progress(0.99, "99")]
    go.set()
    assert drain(job) == [jobs.Done(None)]


def test_step_keeps_its_budget(jobs: Any) -> None:
    stop = threading.Event()

    def work(reporter: Any) -> None:
        while not stop.is_set():
            reporter.progress(0.5, "more")

    job = jobs.Job("flood", work)
    job.start()
    time.sleep(0.05)
    began = time.monotonic()
    job.step(budget=0.02)
    assert time.monotonic() - began < 0.5
    stop.set()
    assert job.join(5)


def test_cancel_only_asks_and_the_job_ends_clean(jobs: Any) -> None:
    cleaned = threading.Event()

    def work(reporter: Any) -> None:
        while not reporter.cancelled():
            time.sleep(0.005)
        cleaned.set()
        raise jobs.Cancelled("Cancelled.")

    job = jobs.Job("endless", work)
    job.start()
    job.cancel()
    assert job.state is jobs.JobState.CANCELLING
    assert drain(job)[-1] == jobs.Stopped()
    assert cleaned.is_set()
    assert job.state is jobs.JobState.CANCELLED


def test_cancel_after_the_work_was_done_keeps_the_value(jobs: Any) -> None:
    job = jobs.Job("quick", lambda reporter: "value")
    job.start()
    assert job.join(5)
    job.cancel()
    assert drain(job)[-1] == jobs.Done("value")


def test_errors_of_the_family_travel_as_they_are(jobs: Any) -> None:
    error = jobs.PlatelightError("The plate is gone.", "Load it.")

    def work(reporter: Any) -> None:
        raise error

    job = jobs.Job("failing", work)
    job.start()
    event = drain(job)[-1]
    assert isinstance(event, jobs.Failed)
    assert event.error is error


def test_a_bug_becomes_one_sentence_and_a_logged_traceback(
    jobs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job = jobs.Job("Analyzing", lambda reporter: 1 / 0)
    job.start()
    event = drain(job)[-1]
    assert isinstance(event, jobs.Failed)
    assert event.error.code == "job_failed"
    assert "Analyzing failed: division by zero" in str(event.error)
    assert "ZeroDivisionError" in caplog.text


def test_wait_blocks_until_the_end_and_tells_every_event(jobs: Any) -> None:
    def work(reporter: Any) -> str:
        reporter.progress(0.5, "half")
        return "end"

    told: list[Any] = []
    job = jobs.Job("blocking", work)
    job.start()
    assert job.wait(told.append, timeout=5) == jobs.Done("end")
    assert told == [jobs.Progress(0.5, "half"), jobs.Done("end")]


def test_wait_times_out_and_asks_the_job_to_stop(jobs: Any) -> None:
    ended = threading.Event()

    def work(reporter: Any) -> None:
        while not reporter.cancelled():
            time.sleep(0.005)
        ended.set()

    job = jobs.Job("slow", work)
    job.start()
    with pytest.raises(TimeoutError, match="slow"):
        job.wait(timeout=0.1)
    assert ended.wait(5)


def test_a_job_starts_once(jobs: Any) -> None:
    job = jobs.Job("once", lambda reporter: None)
    job.start()
    with pytest.raises(RuntimeError, match="started before"):
        job.start()
    drain(job)


def test_fractions_are_clamped(jobs: Any) -> None:
    def work(reporter: Any) -> None:
        reporter.progress(7.0, "too much")

    job = jobs.Job("eager", work)
    job.start()
    assert job.join(5)
    assert job.step(1.0)[0] == jobs.Done(None) or job.fraction == 1.0
