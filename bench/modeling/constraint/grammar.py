"""Grammars of constrained answers, in the Lark syntax of llguidance.

torch is not imported, and llguidance only by functions: it is an optional package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from bench.errors import UserError
from bench.i18n import Message
from bench.records import AnswerConstraint

EXTRA = "pip install 'adaptbench[constrained]'"
JSON_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": " ?"}
"""White space in JSON: at most one space between two symbols, so that no answer is an endless run of white space."""
RATIONALE = r"[^\n]+\n"
"""Reasoning steps before an answer, as `TrainingData.completion` writes them: one line."""


def require_library() -> None:
    """Raise `UserError` if llguidance is not installed."""
    try:
        import llguidance  # noqa: F401
    except ModuleNotFoundError:
        raise UserError(
            Message("--decoding constrained needs the package llguidance, which is not installed"), hint=EXTRA
        ) from None


def write_grammar(constraint: AnswerConstraint, stop_texts: Sequence[str], *, with_rationale: bool = False) -> str:
    """Return the grammar of a generated text: answer start, answer, and its end or none.

    Where the constraint is a regular expression, all of it is one lexeme: a stop text that could also continue the
    answer ends it, as it does when the answer is trimmed.

    Args:
        constraint: What the answer has to match.
        stop_texts: Texts that end an answer; none of them occurs in it.
        with_rationale: Reasoning steps on a line of their own come before the answer.
    """
    before = _literal(constraint.answer_start) + (RATIONALE if with_rationale else "")
    stop = f"(?:{'|'.join(map(_literal, stop_texts))})" if stop_texts else ""
    without_stop = f" & ~/(?s:.*){stop}(?s:.*)/" if stop else ""
    rules = []
    if constraint.kind == "format":
        rules += ["start: ALL", f"ALL: TEXT{' END?' if stop else ''}", f"TEXT: /{before}{_body(constraint)}/"]
        rules[-1] += without_stop
    else:
        rules.append(f"start: {'BEFORE ' if before else ''}answer{' END?' if stop else ''}")
        rules.append(f"answer: %json {_schema_with_options(constraint.source)}")
        rules += [f"BEFORE: /{before}/{without_stop}"] if before else []
    rules += [f"END: /{stop}/"] if stop else []
    return "\n".join(rules) + "\n"


def find_problem(grammar: str) -> str | None:
    """Return in one line why llguidance cannot use a grammar; None if it can."""
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if not failed:
        return None
    lines = [line.strip() for line in messages[0].splitlines() if line.strip()]
    reason = next((line for line in lines if line.startswith("error: ")), lines[0])
    return re.sub(r"^(error: |at \d+\(\d+\): (failed to compile JSON schema: )?)", "", reason)


class TextMatcher:
    """Tells if texts match a grammar, whatever the tokenizer."""

    def __init__(self, grammar: str) -> None:
        from llguidance import LLMatcher, LLTokenizer

        self._tokenizer = LLTokenizer("byte")
        self._matcher = LLMatcher(self._tokenizer, grammar, log_level=0)

    def matches(self, text: str) -> bool:
        """Tell if a whole text matches."""
        matcher, tokens = self._matcher.deep_copy(), self._tokenizer.tokenize_bytes(text.encode())
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def _literal(text: str) -> str:
    """Return a regular expression of Rust that matches exactly a text."""
    return "".join(char if char.isalnum() and char.isascii() else f"\\x{{{ord(char):x}}}" for char in text)


def _body(constraint: AnswerConstraint) -> str:
    r"""Return the regular expression as a part of a grammar, between slashes: `/` is `\/`."""
    parts = re.findall(r"\\.|[^\\]", constraint.source, flags=re.DOTALL)
    escapes = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}
    return f"(?:{''.join(escapes.get(part, part) for part in parts)})"


def _schema_with_options(source: str) -> str:
    schema: Any = json.loads(source)
    return json.dumps(schema | {"x-guidance": JSON_OPTIONS}, ensure_ascii=False)
