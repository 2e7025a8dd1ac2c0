"""Is anything worse than before? Findings, worst first, and the exit code that a build can trust."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench import falls, gates
from bench.falls import SHIFT
from bench.gates import FACTS, Finding, Policy
from bench.pairing import pair
from bench.record import Record
from bench.refusal import Refused

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
        return CANNOT_TELL if self.of("missing", "incomparable") or not scored else 0

    @property
    def summary(self) -> str:
        """One sentence."""
        if self.code == WORSE:
            names = dict.fromkeys(one.name for one in self.of("worse"))
            return f"Worse: {', '.join(names)}."
        if self.code == CANNOT_TELL:
            names = dict.fromkeys(one.name for one in self.of("missing", "incomparable", "unsure"))
            return f"Cannot tell: {', '.join(names) or 'nothing was compared'}."
        if better := dict.fromkeys(one.name for one in self.of("better")):
            return f"Nothing is worse. Better: {', '.join(better)}; the baseline is stale: bless this?"
        unsure = dict.fromkeys(one.name for one in self.of("unsure"))
        return f"Nothing is shown to be worse; unsure: {', '.join(unsure)}." if unsure else "Nothing is worse."


def judge(old: Sequence[Record], new: Sequence[Record], policy: Policy) -> Outcome:
    """Records of before and after, compared."""
    pairs = pair(old, new)
    found = gates.look(pairs, policy) + falls.look(pairs, policy)
    return Outcome(tuple(sorted(found, key=lambda one: (ORDER.index(one.verdict), one.change, one.name))))


def policy(folder: Path) -> Policy:
    """`[tool.bench.check]` of the nearest pyproject.toml from a folder upwards; the defaults where there is none."""
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            try:
                table = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("bench", {}).get("check", {})
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
