"""Is anything worse than before? Findings, worst first, and the exit code that a build can trust."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.analysis.regression import baseline, gates, score_drop, speed
from bench.analysis.regression.gates import BASELINE, FACTS, Finding, Policy, Verdict
from bench.analysis.regression.pairing import pair
from bench.analysis.regression.score_drop import SHIFT
from bench.errors import Refused
from bench.records.record import Record

ORDER = ("worse", "missing", "incomparable", "unsure", "better", "new", "shown", "same")
WORSE, CANNOT_TELL = 1, 3


@dataclass(frozen=True)
class Outcome:
    """Everything that was found, worst first."""

    findings: tuple[Finding, ...]

    def of(self, *verdicts: str) -> list[Finding]:
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
        seen = [one.sees for one in self.findings if one.sees is not None and one.gate != SHIFT]
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


def weigh(new: str, against: str, first: bool, rounds: Path | None = None) -> Outcome:
    """The records of a place against a baseline; `first`: there may be none yet. `rounds` took turns, and tell speed.

    Raises `Refused` where the baseline lies within what it judges: it would be compared with itself.
    """
    rules = policy(Path.cwd())
    inside, outside = Path(against).resolve(), Path(new).resolve()
    if inside != outside and inside.is_relative_to(outside):
        raise Refused(
            f"the baseline {against} lies within {new}, and would be compared with itself",
            mend="keep the records of now in a folder of their own: bench run … --out results/ci",
        )
    if Path(new).is_dir() and not baseline.exists(new):
        return _nothing(new, "there is no record in it", "missing")
    fresh = baseline.records(new)
    if not baseline.exists(against):
        says = f"there is none yet; make it: bench bless {new} --into {against} --why …"
        return _nothing(against, says, "same" if first else "missing")
    return judge(baseline.records(against), fresh, rules, speed.look(rounds, rules) if rounds else ())


def _nothing(name: str, says: str, verdict: Verdict) -> Outcome:
    return Outcome((Finding(name=name, gate=BASELINE, verdict=verdict, says=says),))


def judge(old: Sequence[Record], new: Sequence[Record], policy: Policy, more: Sequence[Finding] = ()) -> Outcome:
    """Records of before and after, compared; `more` was found besides."""
    pairs = pair(old, new)
    found = [*gates.look(pairs, policy), *score_drop.look(pairs, policy), *more]
    return Outcome(tuple(sorted(found, key=lambda one: (ORDER.index(one.verdict), one.change, one.name))))


def policy(folder: Path) -> Policy:
    """`[tool.bench.check]` of the nearest pyproject.toml from a folder upwards; the defaults where there is none."""
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            try:
                table = tomllib.loads(file.read_text("utf-8"))
                for name in ("tool", "bench", "check"):
                    table = table.get(name, {})
                    if not isinstance(table, dict):
                        raise Refused(f"'{name}' is no table", where=str(file), mend="[tool.bench.check]")
                return Policy.model_validate(table)
            except tomllib.TOMLDecodeError as error:
                raise Refused(f"no TOML: {error}", where=str(file)) from None
            except ValidationError as error:
                first = error.errors()[0]
                name = ".".join(map(str, first["loc"]))
                raise Refused(
                    f"[tool.bench.check] {name}: {first['msg'].lower()}",
                    where=str(file),
                    mend=f"Valid: {', '.join(Policy.model_fields)}",
                ) from None
    return Policy()
