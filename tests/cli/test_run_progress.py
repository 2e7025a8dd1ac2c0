"""Output of `bench run` about time: the forecast, the time that is left, and lines of finished runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Bench, MakeTask

from bench.cli.run_progress import RemainingTime, describe_forecast, rough_time
from bench.execution.forecast.job_forecast import NOT_KNOWN, JobForecast

MINUTE = JobForecast(60.0, 40.0, 90.0, "rehearsal")
DONE = JobForecast(0.0, 0.0, 0.0, "existing record")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "5 s"),
        (12, "10 s"),
        (89, "90 s"),
        (110, "2 min"),
        (149, "2.5 min"),
        (540, "9 min"),
        (1500, "25 min"),
        (5400, "1.5 h"),
    ],
)
def test_rough_time_has_few_digits(seconds: float, text: str) -> None:
    assert rough_time(seconds) == text


@pytest.mark.parametrize(
    ("forecasts", "sentence"),
    [
        ([MINUTE] * 9, "9 runs, about 9 min (between 6 min and 14 min)."),
        ([MINUTE, DONE], "1 run, about 60 s (between 40 s and 90 s); 1 run with an existing record."),
        ([NOT_KNOWN] * 2, "2 runs, time not known."),
        ([MINUTE, NOT_KNOWN], "2 runs, about 60 s (between 40 s and 90 s), without 1 run whose time is not known."),
        ([DONE] * 2, "No run to make; 2 runs with an existing record."),
    ],
)
def test_describe_forecast_names_runs_time_and_range(forecasts: list[JobForecast], sentence: str) -> None:
    assert describe_forecast(forecasts)[0] == sentence


def test_remaining_time_follows_the_speed_of_finished_runs() -> None:
    now = 0.0
    time = RemainingTime([MINUTE] * 3, lambda: now)
    assert time.remaining_s == 180
    time.start(0)
    now = 30.0
    assert time.remaining_s == 150
    now = 90.0  # half as fast as expected
    assert time.finish(0, is_new=True) == 90
    assert time.remaining_s == pytest.approx(180)
    time.start(1)
    now = 900.0  # a run that takes too long is never counted as done
    assert time.remaining_s is not None and time.remaining_s > 90


def test_remaining_time_is_none_while_a_run_is_not_known() -> None:
    time = RemainingTime([MINUTE, NOT_KNOWN], lambda: 0.0)
    assert time.remaining_s is None
    time.start(1)
    time.finish(1, is_new=True)
    assert time.remaining_s == 60


def test_run_prints_forecast_scores_and_seconds_as_plain_lines(
    run_bench: Bench, make_task: MakeTask, tmp_path: Path
) -> None:
    make_task(tmp_path / "task")
    command = ("run", "--methods", "majority,nearest", "--task", "./task", "--out", "out")
    planned = run_bench(*command, "--dry-run", "--format", "json")
    assert next(job["method"]["name"] for job in json.loads(planned.stdout)) == "majority"
    assert planned.stderr.splitlines()[:2] == ["Planning the runs …", "2 runs, time not known."]
    assert not (tmp_path / "out").exists()
    ran = run_bench(*command, ADAPTBENCH_REHEARSAL="on")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stderr.splitlines()
    assert "runs, about" in lines[2] and "(between" in lines[2]
    assert any(line.startswith("majority seed 0 (1/2): ok, em ") and "s, about " in line for line in lines), lines
    again = run_bench(*command, "--dry-run")
    assert "No run to make; 2 runs with an existing record." in again.stderr


def test_answer_that_trains_again_says_so_and_about_how_long(
    run_bench: Bench, make_task: MakeTask, tmp_path: Path
) -> None:
    make_task(tmp_path / "task")
    ran = run_bench("run", "--methods", "majority", "--task", "./task", "--no-save-artifacts")
    assert ran.returncode == 0, ran.stderr
    (record,) = (tmp_path / "results").glob("feelings-majority-*.json")
    answered = run_bench("answer", record, "red 1")
    assert answered.returncode == 0, answered.stderr
    first = answered.stderr.splitlines()[0]
    assert first.startswith("Training again with the recorded settings: about ") and "(between " in first
    assert answered.stdout.strip() in ("warm", "cold", "mild")
