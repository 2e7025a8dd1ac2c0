"""The number of seeds that `--seeds auto` chooses from the expected time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Bench

from bench.cli.run_progress import describe_seed_choice
from bench.errors import UserError
from bench.execution.forecast.job_forecast import JobForecast
from bench.execution.forecast.seed_choice import choose_seeds, parse_seeds


def planned(*method_seconds: float | None) -> tuple[list[Any], list[JobForecast]]:
    """Three seeds of methods that take so many seconds per run."""
    runs = [(seed, seconds) for seed in range(3) for seconds in method_seconds]
    jobs = [SimpleNamespace(spec=SimpleNamespace(seed=seed)) for seed, _ in runs]
    return jobs, [JobForecast(seconds, seconds, seconds, "rehearsal") for _, seconds in runs]


@pytest.mark.parametrize(
    ("method_seconds", "seeds", "sentence"),
    [
        ((60.0, 20.0), 3, "--seeds auto: 3 seeds, which take about 4 min (at most 30 min)."),
        ((600.0,), 3, "--seeds auto: 3 seeds, which take about 30 min (at most 30 min)."),
        ((601.0,), 1, "--seeds auto: one seed, because 3 would take about 30 min (at most 30 min). For 3: --seeds 3."),
        ((7200.0, 1.0), 1, "one seed, because 3 would take about 6.0 h"),
        ((300.0, None), 3, "3 seeds, which take about 30 min"),
        ((301.0, None), 1, "one seed, because 3 would take about 30 min"),
        ((None, None), 1, "one seed, because the time of the runs is not known. For 3: --seeds 3."),
    ],
)
def test_choose_seeds_is_three_where_the_expected_time_allows(
    method_seconds: tuple[float | None, ...], seeds: int, sentence: str
) -> None:
    choice = choose_seeds(*planned(*method_seconds))
    assert choice.seeds == seeds
    assert [job.spec.seed for job in choice.jobs] == [seed for seed in range(seeds) for _ in method_seconds]
    assert [forecast.seconds for forecast in choice.forecasts] == [*method_seconds] * seeds
    assert sentence in describe_seed_choice(choice)


@pytest.mark.parametrize(("text", "seeds"), [("1", 1), (" 3 ", 3), ("12", 12), ("auto", None), ("Auto", None)])
def test_parse_seeds_reads_number_or_auto(text: str, seeds: int | None) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "three", "", "0,1"])
def test_parse_seeds_other_text_is_an_error_with_hint(text: str) -> None:
    with pytest.raises(UserError, match="invalid number of seeds") as error:
        parse_seeds(text)
    assert "--seeds auto" in str(error.value.hint)


def test_run_command_seeds_auto_says_what_it_chose(run_bench: Bench, tmp_path: Path) -> None:
    """Tests measure no machine, so the time is not known."""
    command = ["run", "--methods", "majority", "--task", "capitals", "--dry-run", "--out", str(tmp_path / "results")]
    process = run_bench(*command, "--seeds", "auto", "--format", "json")
    assert "--seeds auto: one seed, because the time of the runs is not known. For 3: --seeds 3." in process.stderr
    assert [spec["seed"] for spec in json.loads(process.stdout)] == [0]


def test_run_command_invalid_seeds_exits_with_2(run_bench: Bench) -> None:
    process = run_bench("run", "--methods", "majority", "--task", "capitals", "--seeds", "many")
    assert process.returncode == 2
    assert "error: --seeds many: invalid number of seeds\nhint: --seeds 3" in process.stderr
