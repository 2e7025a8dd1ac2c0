"""Caveats below a table: failures, exhausted budgets, disturbed measurements, power."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from bench import units
from bench.analysis import power, tuning_curve
from bench.analysis.diagnosis import MAX_BACKGROUND_SHARE, busy_share
from bench.analysis.question_groups import FEW_GROUPS
from bench.analysis.seed_variance import NO_SPREAD
from bench.analysis.summary import general_texts
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated
from bench.records import Record, Spec, comparability


def list_caveats(task_results: TaskResults, translate: Translate = untranslated) -> list[str]:
    """Return a sentence for everything that limits what the results of a task say."""
    records = task_results.records
    caveats = [f"{row.label}: {row.status}: {row.reason}" for row in task_results.summaries if row.status != "ok"]
    for record in records:
        caveats += _run_caveats(record, translate)
    caveats += _several_texts(task_results, translate)
    caveats += _own_prompts(records, translate)
    caveats += _model_metrics(records, translate)
    caveats += describe_disturbances(records, translate)
    labels = {row.key: row.label for row in task_results.summaries}
    tuned = {record.spec.key: record for record in records if record.tuning is not None}
    caveats += [describe_tuning(record, labels[key], translate) for key, record in tuned.items()]
    caveats += _detectable_difference(task_results, translate)
    caveats += _question_groups(task_results, translate)
    # The largest training size comes last, and its failures stand at the top of the list.
    for size, rows in list(task_results.summaries_by_size.items())[:-1]:
        failures = [f"{row.label}: {row.status}: {row.reason}" for row in rows if row.status != "ok"]
        caveats += [
            translate("with {size:,} training examples: {failure}", size=size, failure=failure) for failure in failures
        ]
    return caveats


def _detectable_difference(task_results: TaskResults, translate: Translate) -> list[str]:
    """Describe the difference of the two best methods that a single seed can show."""
    results = task_results.comparison.results
    # The formula is that of right or wrong answers to separate questions.
    is_mean = bool(results) and results[0].statistic.recompute is None and results[0].statistic.groups is None
    if not is_mean or not any(len(result.seeds) == 1 for result in results[:2]):
        return []
    questions = results[0].scores.shape[1]
    known = sum((result.known for result in results[:2]), NO_SPREAD)
    return [
        translate(
            "With {items} test questions and one seed, differences below about {points:.1f} points cannot be "
            "detected (paired test, 80 % power, 10 % discordance).",
            items=questions,
            points=100 * power.detectable_difference(questions, known),
        )
    ]


def _question_groups(task_results: TaskResults, translate: Translate) -> list[str]:
    """Describe the groups of the test questions, and warn of few."""
    results = task_results.comparison.results
    groups = results[0].statistic.groups if results else None
    if groups is None:
        return []
    sentences = [
        translate(
            "The {items} test questions belong to {groups} groups; intervals and verdicts count whole groups.",
            items=groups.n_questions,
            groups=groups.n_groups,
        )
    ]
    if groups.n_groups < FEW_GROUPS:
        sentences.append(
            translate(
                "{groups} groups are too few to show any but large differences; more groups help, more questions of "
                "the same groups hardly.",
                groups=groups.n_groups,
            )
        )
    return sentences


def describe_prompts(spec: Spec, translate: Translate = untranslated) -> list[str]:
    """Describe prompts that are not plain text, and answers that are not free."""
    return [*_describe_chat(spec, translate), *_describe_constraint(spec, translate)]


def _describe_constraint(spec: Spec, translate: Translate) -> list[str]:
    if spec.decoding.constraint is None:
        return []
    kinds = {
        "schema": translate("generated answers are constrained to the JSON schema of the task"),
        "format": translate("generated answers are constrained to the regular expression of the task card"),
    }
    return [kinds[spec.decoding.constraint.kind]]


def _describe_chat(spec: Spec, translate: Translate) -> list[str]:
    if spec.prompt.format == "plain":
        return []
    parts = [translate("prompts in the chat template of the model")]
    if spec.prompt.instruction_role == "user":
        parts.append(translate("instruction in the first question"))
    thinking = {"on": translate("thinking on"), "off": translate("thinking off")}
    if spec.prompt.thinking != "none":
        parts.append(thinking[spec.prompt.thinking])
    return [", ".join(parts)]


def _several_texts(task_results: TaskResults, translate: Translate) -> list[str]:
    """Return a caveat for each method whose seeds were measured on different general texts."""
    return [
        translate(
            "The seeds of {name} measured forgetting on different general texts, so it is not shown.", name=row.label
        )
        for row in task_results.summaries
        if len(general_texts(record for record in task_results.records if record.spec.key == row.key)) > 1
    ]


def _own_prompts(records: Sequence[Record], translate: Translate) -> list[str]:
    """Return a caveat for records of the former method `instruct`, whose prompts only it had."""
    if any(record.spec.method.ref == "instruct" and record.spec.prompt.format == "plain" for record in records):
        return [
            translate(
                "instruct, a method of earlier versions, wrote its prompts in the chat template of the model; "
                "the other methods did not."
            )
        ]
    return []


def _model_metrics(records: Sequence[Record], translate: Translate) -> list[str]:
    """Say what scores by a model are, and how far a judge can be trusted."""
    models = next((record.spec.task.metric_models for record in records if record.spec.task.metric_models), None) or {}
    caveats = []
    if similarity := models.get("similarity"):
        caveats.append(
            translate(
                "similarity is the cosine of texts by {model}: near in meaning, which is not the same as right.",
                model=similarity.name,
            )
        )
    reports = [reports["judge"] for record in records if "judge" in (reports := record.rating_reports or {})]
    if reports:
        means = {name: fmean(report[name] for report in reports) for name in min(reports, key=len)}
        agreement = means.get("agreement_with_em")
        caveats.append(
            translate(
                "judge is the model {model}: its verdicts in both orders agree on {consistency:.0f} % of the answers.",
                model=models["judge"].name,
                consistency=100 * means["consistency"],
            )
            if agreement is None
            else translate(
                "judge is the model {model}: its verdicts in both orders agree on {consistency:.0f} % of the answers, "
                "and with em on {agreement:.0f} %.",
                model=models["judge"].name,
                consistency=100 * means["consistency"],
                agreement=100 * agreement,
            )
        )
    return caveats


def _run_caveats(record: Record, translate: Translate) -> Iterator[str]:
    """Yield the caveats of one run."""
    if record.cost is None:
        return
    name = f"{record.spec.method.name} seed {record.spec.seed}"
    usage, answering = record.cost.budget_usage, record.cost.answering
    if record.env and record.env.deterministic is False:
        yield translate(
            "{name}: not deterministic on {device}, so the same settings may give other answers ({operations}).",
            name=name,
            device=record.env.device,
            operations=", ".join(record.env.nondeterministic_operations),
        )
    if usage and usage.stopped_by in ("seconds", "tokens"):
        yield translate(
            "{name}: the budget of {limit} was used up after {steps} steps.",
            name=name,
            limit=usage.stopped_by,
            steps=usage.steps,
        )
    if usage and usage.stopped_by == "patience":
        yield translate(
            "{name}: training stopped after {steps} steps, because the validation loss no longer fell.",
            name=name,
            steps=usage.steps,
        )
    if record.kept_weights and record.kept_weights.not_chosen:
        yield translate(
            "{name}: the weights of the last step were kept: {why}", name=name, why=record.kept_weights.not_chosen
        )
    if usage and usage.activation_checkpointing:
        yield translate(
            "{name}: trained with activation checkpointing, because a step did not fit into memory otherwise: layers "
            "were computed twice, so training took longer; the answers are the same.",
            name=name,
        )
    if answering and answering.truncated_prompts:
        yield translate(
            "{name}: {cut} of {all} prompts were longer than the context and were truncated at the start.",
            name=name,
            cut=answering.truncated_prompts,
            all=answering.queries,
        )
    if answering and answering.cut_answers:
        yield translate(
            "{name}: {cut} of {all} generated answers reached the token limit before they ended; {repeating} of them "
            "repeat a short phrase.",
            name=name,
            cut=answering.cut_answers,
            all=answering.generated_answers,
            repeating=answering.repeating_answers,
        )
    if record.cost.adapter_serving_error:
        yield translate(
            "{name}: adapter serving was not measured: {why}", name=name, why=record.cost.adapter_serving_error
        )


def describe_energy(records: Sequence[Record], translate: Translate = untranslated) -> list[str]:
    """Return a sentence for each reason why the energy of some runs was not measured."""
    costs = [record.cost for record in records if record.cost]
    reasons = Counter(cost.energy_unmeasured for cost in costs if cost.energy_unmeasured)
    return [
        translate("Energy was not measured in {runs} of {all} runs: {why}.", runs=runs, all=len(records), why=reason)
        for reason, runs in reasons.items()
    ]


def describe_disturbances(records: Sequence[Record], translate: Translate = untranslated) -> list[str]:
    """Return sentences on background load and on environments that differ between the runs."""
    sentences = []
    high_shares = [share for record in records if (share := busy_share(record)) > MAX_BACKGROUND_SHARE]
    if high_shares:
        sentences.append(
            translate(
                "Other processes used up to {most} of the cores during {busy} of {all} runs; the times and rates "
                "of these runs are not reliable.",
                most=units.format_share(min(max(high_shares), 1.0)),
                busy=len(high_shares),
                all=len(records),
            )
        )
    differences = comparability.environment_differences(records)
    if differences:
        values_by_field = "; ".join(f"{field}: {', '.join(values)}" for field, values in differences.items())
        sentences.append(
            translate(
                "The runs have different environments, so times and memory are not comparable ({differences}).",
                differences=values_by_field,
            )
        )
    return sentences


def describe_tuning(record: Record, label: str, translate: Translate = untranslated) -> str:
    """Describe the tuning of a method: expected best score, failures, chosen values.

    Values at an edge of the search range are named, since better ones may lie outside.

    Args:
        record: A run of the tuned method; its `tuning` is not None.
        label: Label of the method in the table.
        translate: Translates a sentence and fills in its values.
    """
    assert record.tuning is not None
    trials = record.tuning.trials
    if not trials:
        return translate("{name}: no hyper-parameters to tune.", name=label)
    best_scores = tuning_curve.expected_best([trial.score or 0.0 for trial in trials])
    parts = [
        translate(
            "{name}: expected best validation score after 1 to {trials} trials: {curve}",
            name=label,
            trials=len(trials),
            curve=" ".join(units.format_metric(record.spec.task.metric, score) for score in best_scores),
        )
    ]
    failed = [trial.status for trial in trials if trial.score is None]
    if failed:
        statuses = ", ".join(sorted(set(failed)))
        parts.append(translate("{failed} failed trials count as 0: {statuses}", failed=len(failed), statuses=statuses))
    params = {name: record.spec.method.params[name] for name in record.tuning.ranges}
    parts.append(", ".join(f"{name}={_format_param(value)}" for name, value in params.items()))
    edges = [
        name
        for name, search_range in record.tuning.ranges.items()
        if search_range.choices is None and tuning_curve.is_at_edge(params[name], search_range)
    ]
    if edges:
        parts.append(translate("at the edge of the search range: {edges}", edges=", ".join(edges)))
    return "; ".join(parts) + "."


def _format_param(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
