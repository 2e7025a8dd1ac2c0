"""Sentences on runs that are not compared because their settings differ."""

from __future__ import annotations

from typing import Any

from bench.analysis.run_sets import RunSet
from bench.analysis.task_results import ALL, TaskResults
from bench.i18n import Translate, untranslated
from bench.records import comparability


def terms_sentences(task_results: TaskResults, command: str, translate: Translate = untranslated) -> list[str]:
    """Say which runs of a task are compared and which are not; empty if all runs are shown.

    Args:
        task_results: The results of the compared runs.
        command: Command that shows the others if ` --terms ID` is added to it.
        translate: Translates a sentence and fills in its values.
    """
    if not task_results.other_sets:
        return []
    run_set = task_results.run_set
    texts = comparability.term_texts(run_set.spec)
    facts = {"runs": _count_runs(run_set, translate), "budget": texts["budget"], "id": run_set.id}
    if run_set.newest_start >= max(other.newest_start for other in task_results.other_sets):
        taken = translate("Compared here are the newest runs: {runs} with the budget {budget} (terms {id}).", **facts)
    else:
        taken = translate("Compared here: {runs} with the budget {budget} (terms {id}).", **facts)
    others = [
        translate(
            "Not compared, because settings differ: {runs}{date}, {differences}. To show them: {command}",
            runs=_count_runs(other, translate),
            date=_date(other, translate),
            differences=describe_differences(other, run_set, translate),
            command=f"{command} --terms {other.id}",
        )
        for other in task_results.other_sets
    ]
    return [
        taken,
        *others,
        translate("To show all of them, each by itself: {command}", command=f"{command} --terms {ALL}"),
    ]


def terms_json(task_results: TaskResults) -> dict[str, Any]:
    """Return the terms of the compared runs and of the others for JSON output."""
    compared = task_results.run_set
    return _set_json(compared) | {
        "others": [
            _set_json(other) | {"differences": comparability.differing_terms(other.spec, compared.spec)}
            for other in task_results.other_sets
        ]
    }


def describe_differences(other: RunSet, compared: RunSet, translate: Translate = untranslated) -> str:
    """Describe the terms that differ, e.g. `budget quick → standard`."""
    differences = comparability.differing_terms(other.spec, compared.spec)
    if "task.version" in differences:
        differences.pop("task.sha256", None)  # New data of a new version need no digest.
    names = {
        "budget": translate("budget"),
        "task.version": translate("version of the task"),
        "task.sha256": translate("data of the task"),
        "task.metric": translate("main metric"),
        "task.metric_models": translate("models of metrics"),
        "base.dtype": translate("data type"),
        "decoding.max_new_tokens": translate("tokens per answer"),
        "decoding.stop": translate("end of an answer"),
        "decoding.constraint": translate("decoding of answers"),
        "prompt.format": translate("prompt format"),
        "prompt.instruction_role": translate("role of the instruction"),
        "prompt.thinking": translate("thinking"),
    }
    return "; ".join(f"{names.get(name, name)} {old} → {new}" for name, (old, new) in differences.items())


def _count_runs(run_set: RunSet, translate: Translate) -> str:
    count = len(run_set.records)
    return translate("one run") if count == 1 else translate("{runs} runs", runs=count)


def _date(run_set: RunSet, translate: Translate) -> str:
    """Return the minute of the newest run for a sentence; empty if it is not known."""
    if not run_set.newest_start:
        return ""
    return translate(" of {date}", date=run_set.newest_start[:16].replace("T", " "))


def _set_json(run_set: RunSet) -> dict[str, Any]:
    return {
        "id": run_set.id,
        "runs": len(run_set.records),
        "newest": run_set.newest_start or None,
        **comparability.term_texts(run_set.spec),
    }
