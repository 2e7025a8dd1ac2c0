"""Texts made safe for each output: terminal, Markdown, CSV, XML.

Names, messages and answers come from files and records of other people. A control character in them could change what
a terminal shows, and markup could change a page.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

CONTROL_CHARS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and line feed, characters that change the writing direction, and lone surrogates."""
ILLEGAL_XML_CHARS = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow or advises against."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""First characters that make a spreadsheet read a cell as a formula."""
MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|^[#>+-](?=\s|$)")
"""Characters with a meaning in Markdown; an underscore within a word has none."""
MARKDOWN_LIST_NUMBER = re.compile(r"^(\d+)([.)])(?=\s|$)")
WORKFLOW_COMMAND = re.compile(r"^(\s*):(?=:)|##(?=\[)", re.MULTILINE)
"""Beginning of a command to GitHub Actions, which reads them from the output of a step."""


def clean_text(text: str) -> str:
    r"""Return a text with control characters, but line feeds and tabs, as escapes (`\u001b`).

    Within a JSON string such an escape stands for the character itself.
    """
    return CONTROL_CHARS.sub(_escape, text.replace("\r\n", "\n"))


def clean_line(text: str) -> str:
    """Return a cleaned text on one line."""
    return " ".join(clean_text(text).split("\n"))


def clean_workflow_output(text: str) -> str:
    """Return terminal output in which no line is a command to GitHub Actions."""
    return WORKFLOW_COMMAND.sub(lambda match: f"{match[1]}\\u003a" if match[1] is not None else "#\\u0023", text)


def quote_word(text: str) -> str:
    """Return a word of a command line, in quotes only if a shell needs them."""
    return text if re.fullmatch(r"[\w.,:/@%+=-]+", text) else shlex.quote(text)


def escape_markdown(text: str) -> str:
    """Return a text for a line or a table cell of Markdown, shown as it is."""
    line = clean_line(text)
    line = re.sub(r"&(?=#?\w+;)", "&amp;", MARKDOWN_SPECIAL.sub(r"\\\g<0>", line)).replace("<", "&lt;")
    line = MARKDOWN_LIST_NUMBER.sub(r"\1\\\2", line)
    return re.sub(r"(?<![\w/.])@(?=\w)", "@<!-- -->", line)  # a name after @ would notify a user of GitHub


def escape_markdown_value(value: Any) -> Any:
    """Return a value in a Markdown template; numbers and marked-up text stay as they are."""
    return escape_markdown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def markdown_code(text: str) -> str:
    """Return a text as a code span of Markdown."""
    line = clean_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    padding = " " if len(fence) > 1 or not line.strip() else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def csv_cell(value: Any) -> Any:
    """Return a cell of a CSV table; a text that would be a formula gets an apostrophe.

    Numbers, also those in a text, stay numbers.
    """
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(FORMULA_STARTS) and not _is_number(value)
    return f"'{clean_text(value)}" if is_formula else clean_text(value)


def xml_text(text: str) -> str:
    r"""Return a text with escapes such as `\u001b` for characters that XML does not allow."""
    return ILLEGAL_XML_CHARS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
