"""Check of new records against old ones, with an exit code for a build."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.analysis.regression import baseline, gates, score_drop, speed
from bench.analysis.regression.gates import BASELINE_GATE, NON_SCORE_GATES, GateFinding, GateVerdict, Policy
from bench.analysis.regression.pairing import pair_records
from bench.analysis.regression.score_drop import COMMON_SHIFT
from bench.errors import UserError
from bench.i18n import Message, join_messages
from bench.records import Record, find_record_files

VERDICT_ORDER = ("worse", "missing", "incomparable", "unsure", "better", "new", "shown", "same")
UNDECIDED_VERDICTS = ("missing", "incomparable", "unsure")
EXIT_WORSE, EXIT_CANNOT_TELL = 1, 3


@dataclass(frozen=True)
class CheckOutcome:
    """All findings of a check."""

    findings: tuple[GateFinding, ...]
    """Findings, worst first."""

    def with_verdict(self, *verdicts: str) -> list[GateFinding]:
        """Return the findings that have one of these verdicts."""
        return [finding for finding in self.findings if finding.verdict in verdicts]

    @property
    def exit_code(self) -> int:
        """Exit code: 0 without regressions, 1 with regressions, 3 if the check cannot tell.

        It cannot tell if evidence is missing or if no scores were compared.
        """
        if self.with_verdict("worse"):
            return EXIT_WORSE
        if self.with_verdict(*UNDECIDED_VERDICTS):
            return EXIT_CANNOT_TELL
        compared_scores = any(
            finding.gate not in (*NON_SCORE_GATES, COMMON_SHIFT) for finding in self.with_verdict("same", "better")
        )
        return 0 if compared_scores or self._is_missing_baseline_allowed else EXIT_CANNOT_TELL

    @property
    def summary(self) -> str:
        """The outcome in a few sentences, with the drop that is detected in every method."""
        smallest_drops = [
            finding.smallest_drop
            for finding in self.findings
            if finding.smallest_drop is not None and finding.gate != COMMON_SHIFT
        ]
        sensitivity = ""
        if smallest_drops:
            sensitivity = Message(
                " A drop of about {points:.1f} points in any one method is detected.", points=100 * max(smallest_drops)
            )
        if self.exit_code == EXIT_WORSE:
            return Message("Regressions: {names}.{sensitivity}", names=self._names("worse"), sensitivity=sensitivity)
        if self.exit_code == EXIT_CANNOT_TELL:
            undecided = self.with_verdict(*UNDECIDED_VERDICTS)
            names = self._names(*UNDECIDED_VERDICTS) if undecided else Message("no scores were compared")
            return Message("Cannot tell: {names}.{sensitivity}", names=names, sensitivity=sensitivity)
        if self._is_missing_baseline_allowed:
            return Message("No baseline yet.")
        if self.with_verdict("better"):
            return Message(
                "No regressions. Improved: {names}. Run `bench bless` to update the baseline.{sensitivity}",
                names=self._names("better"),
                sensitivity=sensitivity,
            )
        if smallest_drops:
            return Message("No regressions.{sensitivity}", sensitivity=sensitivity)
        if any(finding.within_tolerance for finding in self.findings):
            return Message("No regressions: answers differ within the tolerance of runs that are not deterministic.")
        return Message("No regressions: all answers are unchanged.")

    @property
    def _is_missing_baseline_allowed(self) -> bool:
        return any(finding.gate == BASELINE_GATE for finding in self.with_verdict("same"))

    def _names(self, *verdicts: str) -> Message:
        return join_messages(", ", dict.fromkeys(finding.name for finding in self.with_verdict(*verdicts)))


def check_against_baseline(
    new: str, baseline_reference: str, allow_missing_baseline: bool, rounds: Path | None = None
) -> CheckOutcome:
    """Check new records against a baseline with the policy of the current folder.

    Args:
        new: File, folder or git revision of the new records.
        baseline_reference: File, folder or git revision of the baseline.
        allow_missing_baseline: True if a missing baseline passes.
        rounds: Folder of interleaved rounds, whose speed is judged; None if there are none.

    Raises:
        UserError: If records or the policy are invalid, if the baseline lies in the folder of the new records, or if a
            new record is a link to one of the baseline.
    """
    policy = read_policy(Path.cwd())
    baseline_path, new_path = Path(baseline_reference).resolve(), Path(new).resolve()
    if baseline_path != new_path and baseline_path.is_relative_to(new_path):
        raise UserError(
            Message(
                "the baseline {baseline} is inside {new}, so it would be compared with itself",
                baseline=baseline_reference,
                new=new,
            ),
            hint=Message("write new records to a folder of their own: bench run … --out results/ci"),
        )
    if new != baseline_reference:
        _require_other_files(Path(new), Path(baseline_reference))
    if Path(new).is_dir() and not baseline.has_records(new):
        return _outcome_without_records(new, Message("no records found"), "missing")
    new_records = baseline.load_baseline(new)
    if not baseline.has_records(baseline_reference):
        command = shlex.join(["bench", "bless", new, "--into", baseline_reference, "--reason"])
        details = Message("no baseline yet; to make it: {command} …", command=command)
        return _outcome_without_records(baseline_reference, details, "same" if allow_missing_baseline else "missing")
    old_records = baseline.load_baseline(baseline_reference)
    return judge_records(old_records, new_records, policy, speed.compare_speed(rounds, policy) if rounds else ())


def judge_records(
    old: Sequence[Record], new: Sequence[Record], policy: Policy, speed_findings: Sequence[GateFinding] = ()
) -> CheckOutcome:
    """Compare old and new records.

    Args:
        old: Records before the change.
        new: Records after it.
        policy: Thresholds of the check.
        speed_findings: Findings of interleaved rounds, which are added to the outcome.
    """
    pairs = pair_records(old, new)
    findings = [*gates.check_gates(pairs, policy), *score_drop.find_score_drops(pairs, policy), *speed_findings]
    findings.sort(key=lambda finding: (VERDICT_ORDER.index(finding.verdict), finding.change, finding.name))
    return CheckOutcome(tuple(findings))


def read_policy(folder: Path) -> Policy:
    """Read `[tool.bench.check]` from the nearest pyproject.toml in a folder or its parents.

    Returns:
        The policy; the defaults if there is no file or no table.

    Raises:
        UserError: If the file or the table is invalid.
    """
    for parent in (folder, *folder.parents):
        file = parent / "pyproject.toml"
        if file.is_file():
            return _parse_policy(_policy_table(file), file)
    return Policy()


def _policy_table(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UserError(Message("invalid TOML: {problem}", problem=error), location=str(file)) from None
    for name in ("tool", "bench", "check"):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise UserError(
                Message("'{name}' is not a table", name=name), location=str(file), hint="[tool.bench.check]"
            )
    return table


def _parse_policy(table: dict[str, Any], file: Path) -> Policy:
    try:
        return Policy.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UserError(
            Message("[tool.bench.check] {name}: {problem}", name=name, problem=first["msg"].lower()),
            location=str(file),
            hint=Message("Valid: {names}", names=", ".join(Policy.model_fields)),
        ) from None


def _require_other_files(new: Path, baseline_path: Path) -> None:
    """Check that no new record is the same file as one of the baseline.

    Raises:
        UserError: If one is; it would be compared with itself.
    """
    baseline_files = {_file_identity(file): file for file in _existing_record_files(baseline_path)}
    for file in _existing_record_files(new):
        if _file_identity(file) in baseline_files:
            raise UserError(
                Message(
                    "the new record is the same file as {file} of the baseline, so it would be compared with itself",
                    file=baseline_files[_file_identity(file)],
                ),
                location=str(file),
                hint=Message("write new records to an empty folder of their own: bench run … --out results/ci"),
            )


def _existing_record_files(path: Path) -> list[Path]:
    """Return the record files of a path; empty for a git revision, and without broken links."""
    return [file for file in find_record_files(path) if file.exists()] if os.path.exists(path) else []


def _file_identity(file: Path) -> tuple[int, int]:
    """Return numbers that links to one file have in common."""
    status = file.stat()
    return status.st_dev, status.st_ino


def _outcome_without_records(name: str, details: str, verdict: GateVerdict) -> CheckOutcome:
    return CheckOutcome((GateFinding(name=name, gate=BASELINE_GATE, verdict=verdict, details=details),))
