"""Outcome of a regression check as a table, as Markdown and as JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.analysis.regression.check import CheckOutcome
from bench.analysis.regression.gates import GateFinding, GateVerdict
from bench.analysis.regression.score_drop import COMMON_SHIFT
from bench.escape import escape_markdown, xml_text
from bench.i18n import Message, Translate, localize, untranslated

TABLE_HEADS = (Message("verdict"), Message("method"), Message("gate"), Message("details"))
UNREMARKABLE_VERDICTS = ("same", "shown")
"""Verdicts that need no attention: nothing changed, or the numbers are shown without a judgment."""
VERDICT_EMOJI = {
    "worse": "❌",
    "missing": "❓",
    "incomparable": "❓",
    "unsure": "🔸",
    "better": "✅",
    "new": "➕",
    "shown": "·",
    "same": "✅",
}
VERDICT_COLORS = {
    "worse": "red",
    "missing": "yellow",
    "incomparable": "yellow",
    "unsure": "yellow",
    "better": "green",
}
GATE_WORDS = {
    "baseline": Message("baseline"),
    "run": Message("run"),
    "status": Message("status"),
    "counts": Message("counts"),
    "artifact": Message("artifact"),
    "memory": Message("memory"),
    "speed": Message("speed"),
    "curve": Message("curve"),
    COMMON_SHIFT: Message("common shift"),
}
"""Gates in words; the gate of a score is the name of its metric, which has no translation."""
JUNIT_ELEMENTS = {"worse": "failure", "missing": "error", "incomparable": "error", "unsure": "skipped"}


def findings_table(outcome: CheckOutcome, everything: bool = False, translate: Translate = untranslated) -> Table:
    """Return a table of the findings, worst first.

    Args:
        outcome: Outcome of the check.
        everything: Also show findings that need no attention.
        translate: Translates a sentence and fills in its values.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for head in TABLE_HEADS:
        table.add_column(localize(head, translate), overflow="fold")
    for finding in outcome.findings:
        if everything or finding.verdict not in UNREMARKABLE_VERDICTS:
            color = VERDICT_COLORS.get(finding.verdict)
            verdict = localize(verdict_words(finding.verdict), translate)
            table.add_row(verdict, *_finding_cells(finding, translate), style=color)
    return table


def verdict_words(verdict: GateVerdict, mark: str = "") -> Message:
    """Return a verdict in words, after a mark.

    A score is worse if it is lower; memory and time are worse if they are higher. So these sentences are not those of
    the verdicts on scores.
    """
    match verdict:
        case "worse":
            return Message("{mark}worse", mark=mark)
        case "missing":
            return Message("{mark}missing", mark=mark)
        case "incomparable":
            return Message("{mark}incomparable", mark=mark)
        case "unsure":
            return Message("{mark}unsure", mark=mark)
        case "better":
            return Message("{mark}better", mark=mark)
        case "new":
            return Message("{mark}new", mark=mark)
        case "same":
            return Message("{mark}same", mark=mark)
        case "shown":
            return Message("{mark}shown", mark=mark)


def _finding_cells(finding: GateFinding, translate: Translate) -> list[str]:
    """Return name, gate and details of a finding in one language."""
    gate = GATE_WORDS.get(finding.gate, finding.gate)
    return [localize(text, translate) for text in (finding.name, gate, finding.details)]


def to_markdown(outcome: CheckOutcome, translate: Translate = untranslated) -> str:
    """Return a comment for a pull request; findings that need no attention are collapsed.

    Args:
        outcome: Outcome of the check.
        translate: Translates a sentence and fills in its values.
    """
    remarkable = [finding for finding in outcome.findings if finding.verdict not in UNREMARKABLE_VERDICTS]
    unremarkable = [finding for finding in outcome.findings if finding.verdict in UNREMARKABLE_VERDICTS]
    parts = [f"### bench check: {escape_markdown(localize(outcome.summary, translate))}\n"]
    if remarkable:
        parts.append(_markdown_table(remarkable, translate))
    if unremarkable:
        title = translate("{number} without a change or without a judgment", number=len(unremarkable))
        table = _markdown_table(unremarkable, translate)
        parts.append(f"<details><summary>{title}</summary>\n\n{table}\n</details>\n")
    return "\n".join(parts)


def to_junit(outcome: CheckOutcome) -> str:
    """Return JUnit XML; `JUNIT_ELEMENTS` says which verdicts are failures and errors."""
    root = ElementTree.Element("testsuites")
    findings = sorted(outcome.findings, key=lambda finding: finding.name)
    for name, group in groupby(findings, key=lambda finding: finding.name):
        _add_test_suite(root, name, list(group))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_test_suite(root: ElementTree.Element, name: str, findings: Sequence[GateFinding]) -> None:
    elements = [JUNIT_ELEMENTS.get(finding.verdict) for finding in findings]
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=xml_text(name),
        tests=str(len(findings)),
        failures=str(elements.count("failure")),
        errors=str(elements.count("error")),
        skipped=str(elements.count("skipped")),
    )
    for number, (finding, element) in enumerate(zip(findings, elements, strict=True), start=1):
        case = ElementTree.SubElement(
            suite, "testcase", classname=xml_text(name), name=xml_text(f"{number} {finding.gate}")
        )
        details = xml_text(finding.details)
        if element:
            ElementTree.SubElement(case, element, message=details, type=finding.verdict)
        else:
            ElementTree.SubElement(case, "system-out").text = details


def _markdown_table(findings: Sequence[GateFinding], translate: Translate) -> str:
    heads = [localize(head, translate) for head in TABLE_HEADS]
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|"]
    for finding in findings:
        cells = [escape_markdown(text) for text in _finding_cells(finding, translate)]
        verdict = localize(verdict_words(finding.verdict, f"{VERDICT_EMOJI[finding.verdict]} "), translate)
        lines.append(f"| {verdict} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
