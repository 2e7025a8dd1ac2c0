"""Choice of the form of prompts for a base model: plain text or turns of a chat."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.modeling import checkpoint
from bench.modeling.chat_template import ChatTemplate, may_have_chat_template
from bench.records import PromptSpec
from bench.task import Task

PromptFormat = Literal["auto", "chat", "plain"]


def choose_chat_template(prompt_format: str, folder: Path) -> ChatTemplate | None:
    """Return the chat template for the prompts of a comparison; None for plain prompts.

    transformers is imported only if there is a template.

    Args:
        prompt_format: `plain`, `chat`, or `auto`: the chat template of the tokenizer if a decoder has one.
        folder: Folder of the base model.

    Raises:
        UserError: The format is unknown, the model has no chat template for `chat`, or the template fails.
    """
    if prompt_format not in get_args(PromptFormat):
        raise UserError(
            Message("--prompt-format {name}: prompt format not found", name=prompt_format),
            hint=did_you_mean(prompt_format, get_args(PromptFormat)),
        )
    if prompt_format == "plain":
        return None
    tokenizer_folder = checkpoint.tokenizer_folder(folder)
    is_decoder = checkpoint.is_decoder(folder)
    if is_decoder and may_have_chat_template(tokenizer_folder):
        tokenizer = checkpoint.load_whole_tokenizer(folder)
        if tokenizer.chat_template and str(tokenizer.chat_template).strip():
            return ChatTemplate.load(tokenizer, tokenizer_folder)
    if prompt_format == "chat":
        problem = (
            Message("the tokenizer has no chat template")
            if is_decoder
            else Message("an encoder has no turns of a chat")
        )
        raise UserError(
            Message("--prompt-format chat: {problem}", problem=problem),
            location=str(tokenizer_folder),
            hint=Message("--prompt-format plain, or --model with a chat (instruct) model"),
        )
    return None


def prompt_spec(chat: ChatTemplate | None, task: Task) -> PromptSpec:
    """Return the form of prompts for the record, after writing a prompt of the task.

    Raises:
        UserError: The chat template cannot write a question of the task.
    """
    if chat is None:
        return PromptSpec()
    first_row = task.splits["train"][0]
    task.training_data(seed=0, chat=chat).prompt(first_row.input, [first_row])
    return chat.spec
