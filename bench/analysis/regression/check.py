"""Is anything worse than before? Findings, worst first, and the exit code that a build can trust."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.analysis.regression import baseline, gates, score_drop, speed
from bench.analysis.regression.gates import BASELINE, FACTS, GateFinding, GateVerdict, Policy
from bench.analysis.regression.pairing import pair_records
from bench.analysis.regression.score_drop import SHIFT
from bench.errors import UserError
from bench.records.record import Record

ORDER = ("worse", "missing", "incomparable", "unsure", "better", "new", "shown", "same")
WORSE, CANNOT_TELL = 1, 3


@dataclass(frozen=True)
class CheckOutcome:
    """Everything that was found, worst first."""

    findings: tuple[GateFinding, ...]

    def of(self, *verdicts: str) -> list[GateFinding]:
        """Those with one of these verdicts."""
        return [one for one in self.findings if one.verdict in verdicts]

    @property
    def code(self) -> int:
        """0: nothing got worse; 1: something did; 3: cannot tell, since evidence is missing or nothing was measured."""
        if self.of("worse"):
            return WORSE
        scored = [one for one in self.of("same", "better") if one.gate not in (*FACTS, SHIFT)]
        scored += [one for one in self.of("same") if one.gate == BASELINE]  # excused, since it is the first
        return CANNOT_TELL if self.of("missing", "incomparable", "unsure") or not scored else 0

    @property
    def summary(self) -> str:
        """One sentence, and what could have been seen."""
        seen = [one.smallest_drop for one in self.findings if one.smallest_drop is not None and one.gate != SHIFT]
        least = f" A fall of about {100 * max(seen):.1f} points in any one method is seen." if seen else ""
        if self.code == WORSE:
            return f"Worse: {self._names('worse')}.{least}"
        if self.code == CANNOT_TELL:
            told = self._names("missing", "incomparable", "unsure") or "nothing was compared"
            return f"Cannot tell: {told}.{least}"
        if [one for one in self.of("same") if one.gate == BASELINE]:
            return "There is no baseline yet."
        if self.of("better"):
            return f"Nothing is worse. Better: {self._names('better')}; the baseline is stale: bless this?{least}"
        return f"Nothing is worse.{least}" if seen else "Nothing is worse: every answer is as before."

    def _names(self, *verdicts: str) -> str:
        return ", ".join(dict.fromkeys(one.name for one in self.of(*verdicts)))


def check_against_baseline(
    new: str, baseline_ref: str, allow_missing_baseline: bool, rounds: Path | None = None
) -> CheckOutcome:
    """The records of a place against a baseline; `first`: there may be none yet. `rounds` took turns, and tell speed.

    Raises `UserError` where the baseline lies within what it judges: it would be compared with itself.
    """
    rules = read_policy(Path.cwd())
    inside, outside = Path(baseline_ref).resolve(), Path(new).resolve()
    if inside != outside and inside.is_relative_to(outside):
        raise UserError(
            f"the baseline {baseline_ref} lies within {new}, and would be compared with itself",
            hint="keep the records of now in a folder of their own: bench run … --out results/ci",
        )
    if Path(new).is_dir() and not baseline.exists(new):
        return _nothing(new, "there is no record in it", "missing")
    fresh = baseline.load_baseline(new)
    if not baseline.exists(baseline_ref):
        says = f"there is none yet; make it: bench bless {new} --into {baseline_ref} --reason …"
        return _nothing(baseline_ref, says, "same" if allow_missing_baseline else "missing")
    return judge_records(
        baseline.load_baseline(baseline_ref), fresh, rules, speed.compare_speed(rounds, rules) if rounds else ()
    )


def _nothing(name: str, says: str, verdict: GateVerdict) -> CheckOutcome:
    return CheckOutcome((GateFinding(name=name, gate=BASELINE, verdict=verdict, details=says),))


def judge_records(
    old: Sequence[Record], new: Sequence[Record], policy: Policy, more: Sequence[GateFinding] = ()
) -> CheckOutcome:
    """Records of before and after, compared; `more` was found besides."""
    pairs = pair_records(old, new)
    found = [*gates.check_gates(pairs, policy), *score_drop.find_score_drops(pairs, policy), *more]
    return CheckOutcome(tuple(sorted(found, key=lambda one: (ORDER.index(one.verdict), one.change, one.name))))


def read_policy(folder: Path) -> Policy:
    """`[tool.bench.check]` of the nearest pyproject.toml from a folder upwards; the defaults where there is none."""
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            try:
                table = tomllib.loads(file.read_text("utf-8"))
                for name in ("tool", "bench", "check"):
                    table = table.get(name, {})
                    if not isinstance(table, dict):
                        raise UserError(f"'{name}' is no table", location=str(file), hint="[tool.bench.check]")
                return Policy.model_validate(table)
            except tomllib.TOMLDecodeError as error:
                raise UserError(f"no TOML: {error}", location=str(file)) from None
            except ValidationError as error:
                first = error.errors()[0]
                name = ".".join(map(str, first["loc"]))
                raise UserError(
                    f"[tool.bench.check] {name}: {first['msg'].lower()}",
                    location=str(file),
                    hint=f"Valid: {', '.join(Policy.model_fields)}",
                ) from None
    return Policy()
