"""Prompts as turns of a chat, written by the chat template of a tokenizer.

A template is a program in Jinja that came with the model, so nothing about it is taken for granted: it is tried on a
short conversation when it is loaded. transformers runs it in a sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError
from bench.i18n import Message
from bench.modeling import model_config
from bench.records import PromptSpec
from bench.user_code import describe_exception

PLAIN_HINT = Message("--prompt-format plain, or fix the template")
THINKING_SWITCH = "enable_thinking"
"""Variable of templates that turns thoughts before an answer on or off."""
THOUGHTS = ("<think>", "</think>")
"""Marks around the thoughts before an answer."""
NO_THOUGHTS = "\n</think>\n\n"
"""End of the thoughts that a prompt has begun, before an answer without any."""

_CLOCK = "strftime_now"
_FIXED_TIME = datetime(2024, 7, 26)
_DIRECTIVES = "aAbBdjmyYHIMSp"
_INSTRUCTION, _SHOT, _QUESTION, _ANSWER = "probe-instruction", ("probe-shot", "probe-solution"), "probe-question", "AA1"
_Role = Literal["system", "user"]


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer; writes prompts and knows where an answer ends."""

    tokenizer: Any
    source: str
    """The template; the clock in it stands still, so that prompts do not depend on the day of the run."""
    variables: dict[str, Any]
    location: str
    """File of the template, for messages."""
    instruction_role: _Role = "system"
    """`user` if the template has no system role; the first question then follows the instruction in one turn."""
    openings: tuple[str, ...] = ("",)
    """Texts that prompts with and without an instruction begin with."""
    has_generation_prompt: bool = True
    """False if the template ignores `add_generation_prompt`."""
    header: str = ""
    """Text before an answer that the template leaves out of its generation prompt."""
    answer_start: str = ""
    """Text between a prompt and the answer: white space, or the end of thoughts that have none."""
    end_token_id: int | None = None
    """Token that ends the turn of an answer; None if the template writes none."""
    end_text: str = ""
    """Text that ends the turn of an answer where no token does."""
    starts_thinking: bool = False
    """True if a prompt ends within thoughts, so that an answer begins with them."""

    @classmethod
    def load(cls, tokenizer: Any, folder: Path) -> ChatTemplate:
        """Try the template of a tokenizer.

        Args:
            tokenizer: Tokenizer of transformers with a chat template.
            folder: Folder of the tokenizer, for messages.

        Raises:
            UserError: The template fails, or it does not show a question, an instruction or a shot.
        """
        file = folder / "chat_template.jinja"
        location = str(file if file.is_file() else folder / "tokenizer_config.json")
        try:
            source = str(tokenizer.get_chat_template())
        except ValueError as error:
            raise UserError(
                Message("the chat template cannot be used: {problem}", problem=error),
                location=location,
                hint=PLAIN_HINT,
            ) from None
        variables = {THINKING_SWITCH: False} if re.search(rf"\b{THINKING_SWITCH}\b", source) else {}
        source = _stop_clock(source) if _CLOCK in source else source
        return _probe(cls(tokenizer, source, variables, location))

    @property
    def spec(self) -> PromptSpec:
        """Form of the prompts, for the record."""
        thinking: Literal["none", "off", "on"] = "none"
        if self.starts_thinking or any(mark in self.source for mark in THOUGHTS):
            thinking = "off" if self.variables and not self.starts_thinking else "on"
        elif self.variables:
            thinking = "off"
        return PromptSpec(format="chat", instruction_role=self.instruction_role, thinking=thinking)

    def prompt(self, instruction: str, shots: Sequence[tuple[str, str]], question: str) -> str:
        """Return the text up to where the answer to a question begins.

        Args:
            instruction: What to do; may be empty.
            shots: Solved questions with their answers, which become turns before the question.
            question: The question.

        Raises:
            UserError: The template fails.
        """
        try:
            return self._render(_messages(self.instruction_role, instruction, shots, question)) + self.header
        except Exception as error:  # code of a template can raise anything
            raise _failure(error, self.location) from error

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens without special tokens, except for marks of thoughts."""
        marks = self.mark_ids
        runs = groupby(token_ids, key=marks.__contains__) if marks else [(False, token_ids)]
        return "".join(self.tokenizer.decode(list(run), skip_special_tokens=not is_mark) for is_mark, run in runs)

    @property
    def end_of_thoughts_tokens(self) -> int:
        """Tokens that end thoughts which a prompt has begun; 0 if there are none."""
        if THOUGHTS[1] not in self.answer_start:
            return 0
        return len(self.tokenizer(self.answer_start, add_special_tokens=False)["input_ids"])

    @cached_property  # asked for with every decoded token
    def mark_ids(self) -> list[int]:
        """Marks of thoughts that are special tokens, which decoding would leave out."""
        special = dict(zip(self.tokenizer.all_special_tokens, self.tokenizer.all_special_ids, strict=True))
        return [special[mark] for mark in THOUGHTS if mark in special]

    def split_thoughts(self, text: str) -> tuple[str, bool]:
        """Remove the thoughts from generated text.

        Returns:
            The rest; and True if the text ends within thoughts.
        """
        begin, end = THOUGHTS
        text = begin + text if self.starts_thinking else text
        if begin not in text and end not in text:
            return text, False
        rest = re.sub(f"{begin}.*?{end}", "", text, flags=re.DOTALL)
        # Some models begin their thoughts without a mark, so an end alone ends thoughts too.
        answer, unclosed, _ = rest.rpartition(end)[2].partition(begin)
        return answer.lstrip(), bool(unclosed)

    def _render(self, messages: Sequence[dict[str, str]], *, generation_prompt: bool = True) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                **self.variables,
            )
        )


def may_have_chat_template(folder: Path) -> bool:
    """Tell by its files if a tokenizer may have a chat template; transformers is not imported.

    Args:
        folder: Folder of the tokenizer.
    """
    config = folder / "tokenizer_config.json"
    in_config = model_config.read_config(folder, config.name).get("chat_template") if config.is_file() else None
    return bool(in_config or list(folder.glob("*.jinja")) or list(folder.glob("additional_chat_templates/*.jinja")))


def _messages(role: str, instruction: str, shots: Sequence[tuple[str, str]], question: str) -> list[dict[str, str]]:
    """Return the turns of a conversation; a `system` instruction is a turn of its own."""
    turns = [(role, text) for shot in shots for role, text in zip(("user", "assistant"), shot, strict=True)]
    turns.append(("user", question))
    if instruction.strip():
        if role == "system":
            turns.insert(0, ("system", instruction))
        else:
            turns[0] = ("user", f"{instruction}\n\n{turns[0][1]}")
    return [{"role": role, "content": text} for role, text in turns]


def _probe(template: ChatTemplate) -> ChatTemplate:
    """Return the template with all that a short conversation shows about it.

    Raises:
        UserError: The template cannot write the conversation.
    """
    template, prompt = _find_instruction_role(template)
    messages = _messages(template.instruction_role, _INSTRUCTION, [_SHOT], _QUESTION)
    solved_messages = [*messages, {"role": "assistant", "content": _ANSWER}]
    try:
        solved = template._render(solved_messages, generation_prompt=False)
        has_generation_prompt = template._render(messages, generation_prompt=False) != prompt
        openings = {_opening(template, instruction): None for instruction in (_INSTRUCTION, "")}
    except Exception as error:
        raise _failure(error, template.location) from error
    before_answer, shown, after_answer = solved.rpartition(_ANSWER)
    if not shown:
        raise UserError(
            Message("the chat template does not show an answer"), location=template.location, hint=PLAIN_HINT
        )
    end_token_id, end_text = _find_turn_end(template.tokenizer, after_answer)
    generation_prompt = prompt.rpartition(_QUESTION)[2]
    begins, ends = (generation_prompt.rfind(mark) for mark in THOUGHTS)
    starts_thinking = begins > ends
    end_of_turn = "" if end_token_id is None else template.tokenizer.convert_ids_to_tokens(end_token_id)
    begins_answer = generation_prompt.strip().removeprefix(end_of_turn) or before_answer.startswith(prompt)
    if not (has_generation_prompt or starts_thinking or begins_answer):
        raise UserError(
            Message(
                "the chat template ignores add_generation_prompt, and a conversation without an answer "
                "does not begin as one with an answer, so where an answer begins is unknown"
            ),
            location=template.location,
            hint=PLAIN_HINT,
        )
    header, answer_start = _split_gap(prompt, before_answer, starts_thinking)
    return replace(
        template,
        openings=tuple(openings),
        has_generation_prompt=has_generation_prompt,
        header=header,
        answer_start=answer_start,
        end_token_id=end_token_id,
        end_text=end_text,
        starts_thinking=starts_thinking,
    )


def _opening(template: ChatTemplate, instruction: str) -> str:
    """Return the text that all prompts with, or without, an instruction begin with."""
    messages = _messages(template.instruction_role, instruction, [_SHOT], _QUESTION)
    prompt, other = template._render(messages), template._render([message | {"content": "x"} for message in messages])
    return "".join(a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, other, strict=False)))


def _find_instruction_role(template: ChatTemplate) -> tuple[ChatTemplate, str]:
    """Return the template with the role of the instruction, and a prompt written so.

    A template refuses a role by an error, or it leaves the text of the turn out.

    Raises:
        UserError: With neither role the conversation is written as a whole.
    """
    problem = UserError(
        Message("the chat template does not show all turns of a conversation"),
        location=template.location,
        hint=PLAIN_HINT,
    )
    roles: tuple[_Role, ...] = ("system", "user")
    for role in roles:
        try:
            prompt = template._render(_messages(role, _INSTRUCTION, [_SHOT], _QUESTION))
        except Exception as error:
            problem = _failure(error, template.location)
            continue
        if all(text in prompt for text in (_INSTRUCTION, *_SHOT, _QUESTION)):
            return replace(template, instruction_role=role), prompt
    raise problem


def _failure(error: Exception, location: str) -> UserError:
    return UserError(
        Message("the chat template fails: {problem}", problem=describe_exception(error)),
        location=location,
        hint=PLAIN_HINT,
    )


def _split_gap(prompt: str, before_answer: str, starts_thinking: bool) -> tuple[str, str]:
    """Return the text that a prompt lacks, and the text that an answer begins with.

    Args:
        prompt: Conversation with the generation prompt.
        before_answer: The same conversation, solved, up to its answer.
        starts_thinking: The prompt ends within thoughts.
    """
    gap = before_answer.removeprefix(prompt) if before_answer.startswith(prompt) else ""
    if starts_thinking:
        return "", gap if THOUGHTS[1] in gap else NO_THOUGHTS
    if not gap and not prompt.endswith(before_answer[-1:]):
        gap = before_answer[len(before_answer.rstrip()) :]
    is_header = gap.strip() and not any(mark in gap for mark in THOUGHTS)
    header = gap.rstrip(" ") if is_header else ""
    return header, gap.removeprefix(header)


def _find_turn_end(tokenizer: Any, after_answer: str) -> tuple[int | None, str]:
    """Return the token that ends a turn, or else the text.

    None and an empty text stand for a template that writes only white space.
    """
    text = after_answer.strip().partition("\n")[0].rstrip()
    token_ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    if token_ids and token_ids[0] in {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}:
        return int(token_ids[0]), ""
    return None, text


def _stop_clock(source: str) -> str:
    """Return a template in which the present is always the same moment.

    Templates of some models write the date into every prompt, so answers would change from day to day.
    """
    filters = "".join(f"|replace('%{letter}', '{_FIXED_TIME.strftime(f'%{letter}')}')" for letter in _DIRECTIVES)
    # The empty expression keeps a line break at the start of the template, which a block would remove.
    return f"{{% macro {_CLOCK}(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}{{{{ '' }}}}{source}"
