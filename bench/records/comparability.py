"""Comparison terms: the settings that runs must share before their scores may be compared."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from bench.errors import UserError
from bench.i18n import Message
from bench.records.budget_text import format_budget
from bench.records.record import Env, Record
from bench.records.spec import Spec

MACHINE_FIELDS = ("processor", "cores", "threads", "device", "processes")
"""Fields of `Env` that decide the speed of a run."""


def comparison_terms(spec: Spec) -> dict[str, Any]:
    """Return task, base model, budget, decoding, prompt and split of a run by dotted name.

    All runs have the same terms. The constraint on answers and the models of metrics are one text each.
    """
    terms = spec.model_dump(mode="json", include={"task", "base", "budget", "decoding", "prompt", "split"})
    terms["decoding"]["constraint"] = spec.decoding.constraint.name if spec.decoding.constraint else "free"
    # The same task or model may lie in different places.
    del terms["task"]["ref"], terms["base"]["ref"], terms["base"]["revision"]
    terms["task"]["metric_models"] = _describe_metric_models(spec)
    return dict(_flatten(terms, ""))


def _describe_metric_models(spec: Spec) -> str:
    """Return the digests of the models of metrics; `none` without such metrics."""
    models = sorted((spec.task.metric_models or {}).items())
    texts = [
        " ".join([metric, *(text[:8] for text in (model.sha256, model.rubric_sha256) if text)])
        for metric, model in models
    ]
    return ", ".join(texts) or "none"


def term_texts(spec: Spec) -> dict[str, str]:
    """Return the comparison terms of a run as texts by dotted name.

    The limits of the budget are one text, as `--budget` takes it; the tokens of an answer that follow from it are left
    out.
    """
    terms = {name: value for name, value in comparison_terms(spec).items() if not name.startswith("budget.")}
    if spec.budget.new_tokens:
        del terms["decoding.max_new_tokens"]
    return {"budget": format_budget(spec.budget)} | {name: _format_value(value) for name, value in terms.items()}


def differing_terms(first: Spec, second: Spec) -> dict[str, tuple[str, str]]:
    """Return the terms that differ between two runs, with both texts, by dotted name."""
    first_texts, second_texts = term_texts(first), term_texts(second)
    return {
        name: (first_texts[name], second_texts[name])
        for name in first_texts
        if name in second_texts and first_texts[name] != second_texts[name]
    }


def require_comparable(records: Sequence[Record], but: Container[str] = ()) -> None:
    """Check that all records have the same comparison terms and questions.

    Terms named in `but` may differ.

    Raises:
        UserError: If a term differs, or if the questions do; the message names what differs and two records.
    """
    if not records:
        return
    first_terms = comparison_terms(records[0].spec)
    for record in records[1:]:
        terms = comparison_terms(record.spec)
        differing = [name for name in first_terms if first_terms[name] != terms[name] and name not in but]
        if differing:
            details = "; ".join(
                f"{name}: {_format_value(first_terms[name])} and {_format_value(terms[name])}" for name in differing
            )
            raise UserError(
                Message("runs with different settings cannot be compared: {details}", details=details),
                location=Message("{first_id} and {id}", first_id=records[0].id, id=record.id),
                hint=Message("name the record files of one setting only, or move the others to another folder"),
            )
    _require_same_questions([record for record in records if record.samples])


def _require_same_questions(records: Sequence[Record]) -> None:
    """Check that all runs answered the same questions.

    Raises:
        UserError: If two did not, although the task is the same; one of the records is incomplete.
    """
    for record in records[1:]:
        first_ids, ids = records[0].samples.ids, record.samples.ids
        if ids != first_ids and set(ids) != set(first_ids):
            question = min(set(ids) ^ set(first_ids))
            raise UserError(
                Message(
                    "the runs answered different questions of one task; only one of them has {question!r}",
                    question=question,
                ),
                location=Message("{first_id} and {id}", first_id=records[0].id, id=record.id),
                hint=Message("a record is incomplete: move it out of the folder, or run it again with --force"),
            )


def environment_differences(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return the machine fields and packages that differ between runs, with their values.

    Scores of such runs can be compared; their times can be compared only if no field of `MACHINE_FIELDS` differs.
    """
    values_by_name: dict[str, list[str]] = {}
    for record in records:
        if record.env is None:
            continue
        for name, value in _environment_values(record.env).items():
            if value is not None and str(value) not in values_by_name.setdefault(name, []):
                values_by_name[name].append(str(value))
    return {name: values for name, values in values_by_name.items() if len(values) > 1}


def same_machine(records: Sequence[Record]) -> bool:
    """Tell if all runs were made on equal machines, so that their times can be compared."""
    return not set(environment_differences(records)) & set(MACHINE_FIELDS)


def _environment_values(env: Env) -> dict[str, Any]:
    values = {name: getattr(env, name) for name in MACHINE_FIELDS} | dict(env.packages)
    if env.threads is None:
        del values["device"]  # A run without torch does not use the device, so its name makes no difference.
    return values


def _flatten(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _format_value(value: Any) -> str:
    """Return a value as text; of a SHA-256 digest the first 8 characters."""
    text = "no limit" if value is None else str(value)
    return f"{text[:8]}…" if len(text) == 64 else text
