"""What a user can afford and wants of a method, and which methods are out for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import units
from bench.analysis.significance import EQUIVALENCE_MARGIN
from bench.analysis.summary import MethodSummary
from bench.errors import UserError
from bench.i18n import Translate

QUERIES = 10_000


@dataclass(frozen=True)
class Constraints:
    """What the user can afford and wants; None and empty: no limit."""

    memory_mib: float | None = None
    train_s: float | None = None
    latency_ms: float | None = None
    """Of 95 of 100 questions asked one at a time."""
    min_scores: dict[str, float] = field(default_factory=dict)
    """Scores that must be reached, by metric."""
    queries: int = QUERIES
    tolerance: float = EQUIVALENCE_MARGIN

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
    ) -> Constraints:
        """From what was typed; raises `UserError` where that is no amount."""
        size = _read("--max-memory", memory, units.parse_bytes)
        wait = _read("--max-latency", latency, units.parse_seconds)
        return cls(
            memory_mib=None if size is None else size / 2**20,
            train_s=_read("--max-train-time", train_time, units.parse_seconds),
            latency_ms=None if wait is None else wait * 1000,
            min_scores=dict(_least(text) for text in min_scores),
            queries=queries,
            tolerance=tolerance,
        )


def _read(option: str, text: str | None, how: Callable[[str], float]) -> float | None:
    try:
        return None if text is None else how(text)
    except ValueError as error:
        raise UserError(f"{option} {text}: {error}") from None


def _least(text: str) -> tuple[str, float]:
    metric, equals, score = (part.strip() for part in text.partition("="))
    try:
        if metric and equals and 0 <= float(score) <= 1:
            return metric, float(score)
    except ValueError:
        pass
    raise UserError(f"--min-score {text}: not of the form METRIC=SCORE, from 0 to 1", hint="--min-score em=0.8")


@dataclass(frozen=True)
class Violation:
    """One of them: what it is called, what is granted, how a method's share is found and written."""

    what: str
    granted: float | None
    of: Callable[[MethodSummary], float | None]
    written: Callable[[float], str]


def describe_constraints(wishes: Constraints, translate: Translate) -> tuple[Violation, ...]:
    """Those that have a number, whether it was given or not."""
    return (
        Violation(translate("memory"), wishes.memory_mib, lambda row: row.peak_mib, lambda mib: f"{mib:,.0f} MiB"),
        Violation(translate("adapting"), wishes.train_s, lambda row: row.train_s, units.time),
        Violation(
            translate("an answer (95 of 100)"),
            wishes.latency_ms,
            lambda row: row.query_p95_ms,
            lambda ms: units.time(ms / 1000),
        ),
    )


def _too_much(row: MethodSummary, wishes: Constraints, translate: Translate) -> str | None:
    """The first limit that a method exceeds."""
    for limit in describe_constraints(wishes, translate):
        found = limit.of(row)
        if limit.granted is None:
            continue
        if found is None:
            return translate("{what}: not measured", what=limit.what)
        if found > limit.granted:
            told = {"found": limit.written(found), "limit": limit.written(limit.granted)}
            return translate("{what}: {found}, over {limit}", what=limit.what, **told)
    for metric, least in wishes.min_scores.items():
        if metric not in row.scores:
            return translate("{what}: not measured", what=metric)
        if row.scores[metric] < least:
            return translate(
                "{metric}: {found:.3f}, under {least:g}", metric=metric, found=row.scores[metric], least=least
            )
    return None


def describe_failed(rows: Sequence[MethodSummary], translate: Translate) -> dict[str, str]:
    """Methods of which a seed did not end well, with every reason."""
    why: dict[str, list[str]] = {}
    for row in rows:
        if row.status != "ok":
            told, seeds = f"{row.status}: {row.reason}", ", ".join(map(str, row.seeds))
            whole = not any(other.key == row.key and other is not row for other in rows)
            why.setdefault(row.label, []).append(
                told if whole else translate("seeds {seeds}: {why}", seeds=seeds, why=told)
            )
    return {name: "; ".join(reasons) for name, reasons in why.items()}


def describe_exceeding(rows: Sequence[MethodSummary], wishes: Constraints, translate: Translate) -> dict[str, str]:
    """Methods that exceed a limit, with the first."""
    return {row.label: reason for row in rows if row.status == "ok" and (reason := _too_much(row, wishes, translate))}
