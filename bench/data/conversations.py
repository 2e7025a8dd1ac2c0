"""Input and answer from a conversation in the format of OpenAI, ShareGPT or Gemini."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.data.text import excerpt
from bench.errors import UserError
from bench.i18n import Message

_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "model", "gpt", "chatgpt", "bot", "ai"),
    "tool": ("tool", "function", "observation", "tool_response", "ipython"),
}
_ROLE_BY_NAME = {name: role for role, names in _ROLES.items() for name in names}
_TOOL_CALL_NAMES = ("tool_calls", "tool_call", "function_call")  # keys of a turn, and roles of ShareGPT
_TEXT_PART_TYPES = (None, "text", "input_text", "output_text")


@dataclass(frozen=True)
class Conversation:
    """The texts of a conversation by their purpose."""

    input: str
    """The turns before the answer, one below the other."""
    answer: str | None
    """The last turn, if it is the assistant's; None if the turns are a prompt only."""
    instruction: str | None
    """All system messages; None if there is none."""


def is_conversation(value: Any) -> bool:
    """Tell if a value is a list of turns, and not a text or a list of accepted answers."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def read_conversation(value: Any, system: Any = None) -> Conversation:
    """Read a conversation that ends with an answer.

    Args:
        value: Turns with `role` and `content`, `from` and `value`, or `role` and `parts`; or the same as JSON text.
        system: A system message beside the turns; None if there is none.

    Raises:
        UserError: It does not end with a turn of the assistant, or a turn is not text. It has no location.
    """
    conversation = read_prompt(value, system)
    if conversation.answer is None:
        raise UserError(
            Message("the last turn of the conversation is not the assistant's, so there is no answer to learn"),
            hint=Message("remove the turns after the last answer, or the row"),
        )
    if not conversation.input.strip():
        raise UserError(
            Message("the conversation has no turn before the answer"),
            hint=Message("add the question, or remove the row"),
        )
    return conversation


def read_prompt(value: Any, system: Any = None) -> Conversation:
    """Read a conversation that may end with a question.

    Raises:
        UserError: A turn is not text, or there is no turn. It has no location.
    """
    turns = [_read_turn(turn, number) for number, turn in enumerate(_parse_turns(value), start=1)]
    if not turns:
        raise UserError(
            Message("the conversation is empty"), hint=Message("add question and answer, or remove the row")
        )
    instructions = [_content_text(system, "the system message")] if system else []
    instructions += [text for role, text in turns if role == "system"]
    spoken = [(role, text) for role, text in turns if role != "system"]
    if not spoken:
        raise UserError(
            Message("the conversation has only a system message"), hint=Message("add the turns, or remove the row")
        )
    answer = spoken.pop()[1] if spoken[-1][0] == "assistant" else None
    return Conversation(
        "\n".join(text for _, text in spoken), answer, "\n".join(filter(str.strip, instructions)) or None
    )


def scalar_text(value: Any) -> str | None:
    """Return a text, a number, or true or false as text; None for any other value.

    Numbers and truth values are written as JSON writes them.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    return None


def _parse_turns(value: Any) -> Sequence[Any]:
    """Return the list of turns; a CSV cell holds it as JSON, or as Python if pandas wrote it."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            try:
                value = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                problem = Message("the conversation is a text that is not JSON: {text}", text=excerpt(value))
                raise UserError(problem, hint=Message('write [{{"role": "user", "content": …}}, …]')) from None
    if value is None or value == "":
        raise UserError(
            Message("the conversation is empty"), hint=Message("add question and answer, or remove the row")
        )
    if not isinstance(value, list):
        problem = Message("the conversation is {actual}, not a list of turns", actual=_describe(value))
        raise UserError(problem, hint=Message('write [{{"role": "user", "content": …}}, …]'))
    return value


def _read_turn(turn: Any, number: int) -> tuple[str, str]:
    """Return role and text of a turn."""
    if not isinstance(turn, dict):
        problem = Message("turn {number} of the conversation is {actual}", number=number, actual=_describe(turn))
        raise UserError(problem, hint=Message('a turn is {{"role": "user", "content": …}}'))
    name = turn.get("role", turn.get("from"))
    role = _ROLE_BY_NAME.get(str(name).lower())
    if name in _TOOL_CALL_NAMES or any(turn.get(key) for key in _TOOL_CALL_NAMES):
        problem = Message("turn {number} ({name}) calls a tool, which is not text", number=number, name=name)
        raise UserError(problem, hint=Message("write the call as text in a turn of the assistant, or remove the row"))
    if role is None:
        problem = (
            Message("turn {number} of the conversation has the role {name!r}", number=number, name=name)
            if name
            else Message("turn {number} has no role", number=number)
        )
        raise UserError(problem, hint=Message("valid roles: {names}", names=", ".join(_ROLE_BY_NAME)))
    location = Message("turn {number} ({name})", number=number, name=name)
    content = next((turn[key] for key in ("content", "value", "parts") if turn.get(key) is not None), None)
    text = _content_text(content, location)
    if not text.strip() and role != "system":
        raise UserError(
            Message("{location} is empty", location=location), hint=Message("add its text, or remove the row")
        )
    return role, text


def _content_text(content: Any, location: str) -> str:
    """Return the text of a turn, whose content is a text or a list of parts."""
    if isinstance(content, dict):
        content = content.get("parts", [content])
    if not isinstance(content, list):
        text = scalar_text(content)
        if text is None:
            problem = (
                Message("{location} has no text", location=location)
                if content is None
                else Message("{location} is {actual}, not a text", location=location, actual=_describe(content))
            )
            raise UserError(problem, hint=Message("add its text, or remove the row"))
        return text
    return "".join(_part_text(part, location) for part in content)


def _part_text(part: Any, location: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") in _TEXT_PART_TYPES and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") or next(iter(part), "nothing") if isinstance(part, dict) else _describe(part)
    raise UserError(
        Message("{location} has a part that is not text: {kind}", location=location, kind=kind),
        hint=Message("remove the part, or the row"),
    )


def _describe(value: Any) -> str:
    """Return the kind of a value and its beginning, for a message."""
    return f"{type(value).__name__} {excerpt(str(value))}"
