"""The error for invalid user input, with its location and a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from bench.i18n import Message, join_messages


class UserError(Exception):
    """Invalid input; the command line prints it and exits with `exit_code`, 2.

    Raise it before any slow work starts.

    Args:
        message: The problem, e.g. `method 'lroa' not found`; a `Message`, so that the command line can translate it.
        location: File, file and line, or option where the problem is; None if the message names it.
        hint: Action that solves the problem, best something to type; None if there is no general one. A `Message`
            unless it is only something to type.
    """

    exit_code = 2

    def __init__(self, message: str, *, location: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.hint = hint

    def describe(self) -> Message:
        """Return problem, location and hint, a line each."""
        lines = [self.message]
        if self.location:
            lines.append(Message("at: {location}", location=self.location))
        if self.hint:
            lines.append(Message("hint: {action}", action=self.hint))
        return join_messages("\n", lines)

    def __str__(self) -> str:
        return f"{self.describe()}"


class StorageError(UserError):
    """Valid input, but files cannot be written; for example, the disk is full."""

    exit_code = 1


def did_you_mean(word: str, valid: Iterable[str]) -> Message:
    """Return a hint with the closest valid word and all valid words.

    Args:
        word: The word that is not valid.
        valid: All valid words.

    Returns:
        `did you mean 'lora'? Valid: full, lora, …`; without the question if no word is close.
    """
    names = sorted(valid)
    closest = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    valid_names = ", ".join(names) or Message("none")
    if not closest:
        return Message("Valid: {names}", names=valid_names)
    return Message("did you mean '{name}'? Valid: {names}", name=closest[0], names=valid_names)
