"""Outcome of a regression check as a table, as Markdown and as JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.analysis.regression.check import CheckOutcome
from bench.analysis.regression.gates import GateFinding
from bench.escape import escape_markdown, xml_text
from bench.i18n import Translate, untranslated

TABLE_HEADS = ("verdict", "method", "gate", "details")
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
JUNIT_ELEMENTS = {"worse": "failure", "missing": "error", "incomparable": "error", "unsure": "skipped"}


def findings_table(outcome: CheckOutcome, everything: bool = False, translate: Translate = untranslated) -> Table:
    """Return a table of the findings, worst first.

    Args:
        outcome: Outcome of the check.
        everything: Also show findings that need no attention.
        translate: Translates a sentence and fills in its values.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for head in (translate("verdict"), translate("method"), translate("gate"), translate("details")):
        table.add_column(head, overflow="fold")
    for finding in outcome.findings:
        if everything or finding.verdict not in UNREMARKABLE_VERDICTS:
            color = VERDICT_COLORS.get(finding.verdict)
            table.add_row(finding.verdict, finding.name, finding.gate, finding.details, style=color)
    return table


def to_markdown(outcome: CheckOutcome) -> str:
    """Return a comment for a pull request; findings that need no attention are collapsed."""
    remarkable = [finding for finding in outcome.findings if finding.verdict not in UNREMARKABLE_VERDICTS]
    unremarkable = [finding for finding in outcome.findings if finding.verdict in UNREMARKABLE_VERDICTS]
    parts = [f"### bench check: {escape_markdown(outcome.summary)}\n"]
    if remarkable:
        parts.append(_markdown_table(remarkable))
    if unremarkable:
        title = f"{len(unremarkable)} without a change or without a judgment"
        parts.append(f"<details><summary>{title}</summary>\n\n{_markdown_table(unremarkable)}\n</details>\n")
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


def _markdown_table(findings: Sequence[GateFinding]) -> str:
    lines = [f"| {' | '.join(TABLE_HEADS)} |", "|---|---|---|---|"]
    for finding in findings:
        cells = [escape_markdown(text) for text in (finding.name, finding.gate, finding.details)]
        lines.append(f"| {VERDICT_EMOJI[finding.verdict]} {finding.verdict} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
