"""A check's outcome for people and machines: a table, Markdown for a pull request, JUnit, JSON."""

from __future__ import annotations

import re
from itertools import groupby
from xml.etree import ElementTree

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.analysis.regression.check import CheckOutcome
from bench.analysis.regression.gates import GateFinding
from bench.i18n import escape_markdown

QUIET = ("same", "shown")
ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
SIGNS = {
    "worse": "❌",
    "missing": "❓",
    "incomparable": "❓",
    "unsure": "🔸",
    "better": "✅",
    "new": "➕",
    "shown": "·",
    "same": "✅",
}
COLORS = {"worse": "red", "missing": "yellow", "incomparable": "yellow", "unsure": "yellow", "better": "green"}


def findings_table(outcome: CheckOutcome, everything: bool = False) -> Table:
    """What was found, worst first; what is as before only where asked for."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("verdict", "where", "what", "says"):
        shown.add_column(heading, overflow="fold")
    for one in outcome.findings:
        if everything or one.verdict not in QUIET:
            shown.add_row(one.verdict, one.name, one.gate, one.details, style=COLORS.get(one.verdict))
    return shown


def to_markdown(outcome: CheckOutcome) -> str:
    """For a pull request: the sentence, what changed, and what did not, folded."""
    loud = [one for one in outcome.findings if one.verdict not in QUIET]
    quiet = [one for one in outcome.findings if one.verdict in QUIET]
    parts = [f"### bench check: {outcome.summary}\n"]
    if loud:
        parts.append(_lines(loud))
    if quiet:
        told = f"{len(quiet)} that changed nothing or are only shown"
        parts.append(f"<details><summary>{told}</summary>\n\n{_lines(quiet)}\n</details>\n")
    return "\n".join(parts)


def to_junit(outcome: CheckOutcome) -> str:
    """Worse is a failure, missing and incomparable are errors, unsure is skipped."""
    kinds = {"worse": "failure", "missing": "error", "incomparable": "error", "unsure": "skipped"}
    root = ElementTree.Element("testsuites")
    for name, found in groupby(sorted(outcome.findings, key=lambda one: one.name), key=lambda one: one.name):
        cases = list(found)
        counts = {
            kind: sum(kinds.get(one.verdict) == kind for one in cases) for kind in ("failure", "error", "skipped")
        }
        suite = ElementTree.SubElement(
            root, "testsuite", name=name, tests=str(len(cases)), failures=str(counts["failure"]),
            errors=str(counts["error"]), skipped=str(counts["skipped"]),
        )  # fmt: skip
        for number, one in enumerate(cases, start=1):
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=f"{number} {one.gate}")
            says = ILLEGAL.sub("\ufffd", one.details)
            if kind := kinds.get(one.verdict):
                ElementTree.SubElement(case, kind, message=says, type=one.verdict)
            else:
                ElementTree.SubElement(case, "system-out").text = says
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _lines(found: list[GateFinding]) -> str:
    rows = ["| | where | what | says |", "|---|---|---|---|"]
    rows += [
        f"| {SIGNS[one.verdict]} {one.verdict} | {escape_markdown(one.name)} | {escape_markdown(one.gate)} | {escape_markdown(one.details)} |"
        for one in found
    ]
    return "\n".join(rows) + "\n"
