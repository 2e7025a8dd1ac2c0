"""Records grouped by task and model, with smaller training sizes beside them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.analysis import comparison
from bench.analysis.comparison import Comparison, MethodResult
from bench.analysis.run_sets import TRAINING_SIZE_TERM, RunSet, divide_by_terms
from bench.analysis.summary import MethodSummary, summarize_methods
from bench.errors import UserError
from bench.i18n import Message
from bench.records import Record, comparability, corpus_metrics

MAX_SLUG_CHARS = 60
"""Longer titles are cut in file names, which have at most 255 bytes."""
NEWEST, ALL = "newest", "all"
"""Values of `--terms` beside the id of a set."""


@dataclass(frozen=True)
class TaskResults:
    """Results of one task on one model."""

    model: str
    """Name of the model, with part of its digest if another model of the task has the same name."""
    records: tuple[Record, ...]
    """Records of the largest training size, which are the ones compared."""
    records_by_size: dict[int, tuple[Record, ...]]
    """All records by number of training examples, ascending; empty if all have the same size."""
    run_set: RunSet
    """The runs of these results."""
    other_sets: tuple[RunSet, ...] = ()
    """Runs of the same task and model with other comparison terms that are not shown, the newest first."""
    terms_label: str = ""
    """Terms in which these runs differ from others of the task and model; empty for the newest runs by default."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.records[0].spec.task.name

    @property
    def metric(self) -> str:
        """Main metric of the task."""
        return self.records[0].spec.task.metric

    @cached_property
    def chance(self) -> float | None:
        """Score of the best constant answer; None if the metric does not count all labels alike.

        Other metrics count frequent labels more, as em does, so that a constant answer may score high by right.
        """
        record = next((record for record in self.records if record.samples and record.labels), None)
        if self.metric not in ("macro-f1", "mcc", "balanced-accuracy") or record is None or record.labels is None:
            return None
        codes = record.samples.codes(record.labels)
        return corpus_metrics.constant_answer_score(self.metric, codes, len(record.labels.names))

    @property
    def title(self) -> str:
        """Names of the task and the model, and terms that distinguish sections."""
        return " · ".join(filter(None, [self.task, self.model, self.terms_label]))

    @property
    def slug(self) -> str:
        """The title for file names and URLs, with a digest if it had to be changed."""
        names = "-".join(filter(None, [self.task, self.model, self.terms_label]))
        fitting = re.sub(r"[^\w.-]+", "-", names)[:MAX_SLUG_CHARS]
        is_changed = fitting != names.replace(" ", "-")
        return f"{fitting}-{hashlib.sha256(names.encode()).hexdigest()[:6]}" if is_changed else fitting

    @property
    def all_records(self) -> list[Record]:
        """Records of all training sizes."""
        if not self.records_by_size:
            return list(self.records)
        return [record for records in self.records_by_size.values() for record in records]

    @cached_property
    def comparison(self) -> Comparison:
        """Comparison of the methods at the largest training size."""
        return comparison.compare_methods(self.records)

    @cached_property
    def shifted_comparison(self) -> Comparison | None:
        """Comparison of the methods on the shifted questions; None if the task has none."""
        records = [shifted for record in self.records if (shifted := record.on_shifted) is not None]
        return comparison.compare_methods(records) if records else None

    @cached_property
    def results_by_size(self) -> list[tuple[tuple[Record, ...], tuple[MethodResult, ...]]]:
        """Records and results of each training size, ascending; the last is compared."""
        smaller = list(self.records_by_size.values())[:-1]
        return [
            *((records, tuple(comparison.method_results(records))) for records in smaller),
            (self.records, self.comparison.results),
        ]

    @cached_property
    def summaries(self) -> list[MethodSummary]:
        """Scores and costs of each method at the largest training size, best first."""
        return summarize_methods(self.records)

    @cached_property
    def summaries_by_size(self) -> dict[int, list[MethodSummary]]:
        """Summaries by ascending number of training examples; empty for a single size."""
        smaller = list(self.records_by_size.items())[:-1]
        summaries = {size: summarize_methods(records) for size, records in smaller}
        for largest in list(self.records_by_size)[-1:]:
            summaries[largest] = self.summaries
        return summaries


def group_by_task(records: Sequence[Record], terms: str = NEWEST) -> list[TaskResults]:
    """Group records by task and model, in the order of their first records.

    Runs of one task and model that differ in more than the training size are not compared. One set of runs with equal
    terms is chosen, and the results name the others.

    Args:
        records: The records.
        terms: `newest` for the newest runs of each task and model, `all` for results of every set, or the id of a set;
            tasks without that set have their newest runs.

    Raises:
        UserError: If no set has the id, or if runs with equal terms answered different questions.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.task.name, record.spec.base.sha256].append(record)
    names = [(group[0].spec.task.name, group[0].spec.base.name) for group in groups.values()]
    counts = Counter(names)
    sets_by_group = [divide_by_terms(group) for group in groups.values()]
    if terms not in (NEWEST, ALL):
        _require_id(terms, sets_by_group)
    results = []
    for sets, name in zip(sets_by_group, names, strict=True):
        base = sets[0].spec.base
        # Another model of the task may have the same name; part of the digest then tells them apart.
        model = f"{base.name} {base.sha256[:6]}" if counts[name] > 1 else base.name
        chosen = sets if terms == ALL else [next((run_set for run_set in sets if run_set.id == terms), sets[0])]
        has_label = len(sets) > 1 and (terms == ALL or chosen[0].id == terms)
        results += [_task_results(model, run_set, sets, terms == ALL, has_label) for run_set in chosen]
    return results


def _require_id(terms: str, sets_by_group: Sequence[Sequence[RunSet]]) -> None:
    """Raise `UserError` if no set has the id."""
    descriptions = {
        run_set.id: f"{run_set.id} ({run_set.spec.task.name}, {run_set.spec.base.name}, "
        f"{_terms_label(run_set, sets) or comparability.term_texts(run_set.spec)['budget']})"
        for sets in sets_by_group
        for run_set in sets
    }
    if terms not in descriptions:
        raise UserError(
            Message("--terms {terms}: no runs with these terms", terms=terms),
            hint=Message(
                "--terms {newest}, --terms {all}, or one of: {names}",
                newest=NEWEST,
                all=ALL,
                names=", ".join(descriptions.values()),
            ),
        )


def _terms_label(run_set: RunSet, sets: Sequence[RunSet]) -> str:
    """Return the terms of a set that differ between the sets, e.g. `quick, bfloat16`."""
    texts = comparability.term_texts(run_set.spec)
    differing = {name for other in sets for name in comparability.differing_terms(run_set.spec, other.spec)}
    return ", ".join(text for name, text in texts.items() if name in differing)


def _task_results(
    model: str, run_set: RunSet, sets: Sequence[RunSet], all_are_shown: bool, has_label: bool
) -> TaskResults:
    """Return the results of one set of runs of a task and model."""
    comparability.require_comparable(run_set.records, but=(TRAINING_SIZE_TERM,))
    return TaskResults(
        model=model,
        records=run_set.compared_records,
        records_by_size=dict(zip(run_set.sizes, run_set.records_by_limit.values(), strict=False)),
        run_set=run_set,
        other_sets=() if all_are_shown else tuple(other for other in sets if other.id != run_set.id),
        terms_label=_terms_label(run_set, sets) if has_label else "",
    )
