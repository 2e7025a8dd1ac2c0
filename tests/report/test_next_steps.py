"""Commands that advice proposes to type next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from conftest import MakeRecord

from bench.analysis import advice, task_results
from bench.analysis.constraints import Constraints
from bench.records import Record
from bench.report.next_steps import next_steps

COMMAND = ("run", "--methods", "lora", "--task", "./my task", "--budget=quick")


def commands(*records: Record) -> list[list[str]]:
    (results,) = task_results.group_by_task(records)
    advised = advice.advise(results, Constraints())
    return [shlex.split(step.command) for step in next_steps(advised, results, Path("my results"))]


def make_runs(make_record: MakeRecord, seeds: int = 1, **changes: Any) -> list[Record]:
    settings = {"command": COMMAND, "items": 200, "base__ref": "./mymodel"} | changes
    controls = [make_record("nearest", 0.1, method__control=True, **settings)]
    return controls + [make_record("lora", 0.9, seed=seed, **settings) for seed in range(seeds)]


def test_next_steps_one_seed_and_short_budget_give_the_run_again(make_record: MakeRecord) -> None:
    surer, *_ = commands(*make_runs(make_record, budget={"examples": 200, "epochs": 1}))
    assert surer == ["bench", *COMMAND[:-1], "--budget=standard", "--seeds", "3"]


def test_next_steps_demo_model_gives_the_run_on_another_model(make_record: MakeRecord) -> None:
    runs = make_runs(make_record, seeds=3, base__ref="bookworm")
    assert commands(*runs)[0] == ["bench", *COMMAND, "--model", "FOLDER"]


def test_next_steps_of_a_sure_answer_are_report_and_question(make_record: MakeRecord) -> None:
    runs = make_runs(make_record, seeds=3)
    assert commands(*runs) == [
        ["bench", "report", "my results"],
        ["bench", "answer", f"my results/{runs[1].id}.json", "..."],
    ]


def test_next_steps_of_controls_alone_name_methods(make_record: MakeRecord) -> None:
    (control, _) = make_runs(make_record)
    assert commands(control)[0][:4] == ["bench", "run", "--methods", "few-shot,lora"]


def test_next_steps_without_a_recorded_run_command_propose_none(make_record: MakeRecord) -> None:
    for command in ((), ("bless", "results")):
        assert {words[1] for words in commands(*make_runs(make_record, command=command))} == {"report", "answer"}
