"""Limits that a user sets on a method, and the methods that do not meet them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import units
from bench.analysis.price import HourlyPrice
from bench.analysis.significance import EQUIVALENCE_MARGIN
from bench.analysis.summary import MethodSummary
from bench.errors import UserError
from bench.i18n import Message, Translate, format_duration

DEFAULT_QUERIES = 10_000
USEFUL_SCORE = 0.5
"""Mean of the main metric below which no method is recommended, unless the user gives a minimum with `--min-score`.

A method that is wrong more often than right helps nobody, however much better than the others it is. Metrics that count
all labels alike have another one, see `Constraints.useful_score`.
"""


@dataclass(frozen=True)
class Constraints:
    """Limits and preferences of a user; None or empty means no limit."""

    memory_mib: float | None = None
    """Largest peak memory of any phase, in MiB."""
    train_s: float | None = None
    """Longest training time, in seconds."""
    latency_ms: float | None = None
    """Largest p95 latency of a query asked alone, in milliseconds."""
    min_scores: dict[str, float] = field(default_factory=dict)
    """Lowest mean score, by metric."""
    queries: int = DEFAULT_QUERIES
    """Number of queries that the total cost is computed for."""
    tolerance: float = EQUIVALENCE_MARGIN
    """Loss of score that makes no difference to the user."""
    price: HourlyPrice | None = None
    """Price of the machine; None if costs are given in time only."""

    def useful_score(self, metric: str, chance: float | None = None) -> float:
        """Return the lowest score with which a method is worth recommending.

        Args:
            metric: Main metric.
            chance: Score of the best constant answer, for metrics that count all labels alike; None for others. Half of
                the way from there to a perfect score is useful.
        """
        return self.min_scores.get(metric, USEFUL_SCORE if chance is None else (1 + chance) / 2)

    @classmethod
    def parse(
        cls,
        memory: str | None,
        train_time: str | None,
        latency: str | None,
        min_scores: Sequence[str],
        *,
        queries: int,
        tolerance: float,
        price_per_hour: str | None = None,
    ) -> Constraints:
        """Parse the options of `bench advise`.

        Args:
            memory: Memory with a unit, e.g. `8GiB`.
            train_time: Time with a unit, e.g. `10min`.
            latency: Time with a unit, e.g. `200ms`.
            min_scores: Texts of the form METRIC=SCORE.
            queries: Number of queries.
            tolerance: Loss of score that makes no difference.
            price_per_hour: Price of the machine, e.g. `$0.60`.

        Raises:
            UserError: If a value is invalid.
        """
        max_bytes = _parse_option("--max-memory", memory, units.parse_bytes)
        max_latency_s = _parse_option("--max-latency", latency, units.parse_seconds)
        return cls(
            memory_mib=None if max_bytes is None else max_bytes / 2**20,
            train_s=_parse_option("--max-train-time", train_time, units.parse_seconds),
            latency_ms=None if max_latency_s is None else max_latency_s * 1000,
            min_scores=dict(_parse_min_score(text) for text in min_scores),
            queries=queries,
            tolerance=tolerance,
            price=None if price_per_hour is None else HourlyPrice.parse(price_per_hour),
        )


@dataclass(frozen=True)
class UpperLimit:
    """Upper limit of one quantity that is measured for every method."""

    label: str
    value: float | None
    """The limit; None if the user set none."""
    measure: Callable[[MethodSummary], float | None]
    """Returns the value of a method, in the unit of the limit; None if it was not measured."""
    format: Callable[[float], str]
    """Writes a value with its unit."""


def upper_limits(constraints: Constraints, translate: Translate) -> tuple[UpperLimit, ...]:
    """Return the limit of every limited quantity, also of those for which the user set none."""
    return (
        UpperLimit(
            translate("peak memory"),
            constraints.memory_mib,
            lambda summary: summary.peak_mib,
            lambda mib: f"{mib:,.0f} MiB",
        ),
        UpperLimit(
            translate("training time"),
            constraints.train_s,
            lambda summary: summary.train_s,
            lambda seconds: format_duration(seconds, translate),
        ),
        UpperLimit(
            translate("p95 latency"),
            constraints.latency_ms,
            lambda summary: summary.query_p95_ms,
            lambda milliseconds: format_duration(milliseconds / 1000, translate),
        ),
    )


def failure_reasons(summaries: Sequence[MethodSummary], translate: Translate) -> dict[str, str]:
    """Return why runs failed, by the label of each method with a failed run."""
    reasons: dict[str, list[str]] = {}
    for summary in summaries:
        if summary.status == "ok":
            continue
        reason = f"{summary.status}: {summary.reason}"
        if any(other.key == summary.key and other is not summary for other in summaries):
            reason = translate("seeds {seeds}: {reason}", seeds=", ".join(map(str, summary.seeds)), reason=reason)
        reasons.setdefault(summary.label, []).append(reason)
    return {label: "; ".join(method_reasons) for label, method_reasons in reasons.items()}


def exceeded_limits(
    summaries: Sequence[MethodSummary], constraints: Constraints, translate: Translate
) -> dict[str, str]:
    """Return the first unmet constraint, by the label of each method that has one."""
    reasons = {}
    for summary in summaries:
        if summary.status == "ok":
            reason = _first_exceeded_limit(summary, constraints, translate)
            if reason:
                reasons[summary.label] = reason
    return reasons


def _first_exceeded_limit(summary: MethodSummary, constraints: Constraints, translate: Translate) -> str | None:
    for limit in upper_limits(constraints, translate):
        if limit.value is None:
            continue
        value = limit.measure(summary)
        if value is None:
            return translate("{quantity}: not measured", quantity=limit.label)
        if value > limit.value:
            return translate(
                "{quantity}: {value} exceeds {limit}",
                quantity=limit.label,
                value=limit.format(value),
                limit=limit.format(limit.value),
            )
    for metric, minimum in constraints.min_scores.items():
        if metric not in summary.scores:
            return translate("{quantity}: not measured", quantity=metric)
        if summary.scores[metric] < minimum:
            return translate(
                "{metric}: {score} is below {minimum}",
                metric=metric,
                score=units.format_score(summary.scores[metric], metric),
                minimum=units.format_score(minimum, metric),
            )
    return None


def _parse_option(option: str, text: str | None, parse: Callable[[str], float]) -> float | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UserError(Message("{option} {text}: {problem}", option=option, text=text, problem=error)) from None


def _parse_min_score(text: str) -> tuple[str, float]:
    metric, equals, score = (part.strip() for part in text.partition("="))
    try:
        if metric and equals and 0 <= float(score) <= 1:
            return metric, float(score)
    except ValueError:
        pass
    raise UserError(
        Message("--min-score {text}: invalid; it has the form METRIC=SCORE with a score from 0 to 1", text=text),
        hint="--min-score em=0.8",
    )
