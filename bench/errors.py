"""How the harness says no: what is wrong, where, and how to mend it, before anything slow starts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The command line prints it and ends with exit code 2."""

    def __init__(self, message: str, *, location: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.what, self.where, self.mend = message, location, hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.mend:
            lines.append(f"  mend:  {self.mend}")
        return "\n".join(lines)


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """The nearest valid word as a question, and all valid ones: `did you mean 'lora'? Valid: full, lora, …`."""
    names = sorted(valid)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    question = f"did you mean '{near[0]}'? " if near else ""
    return f"{question}Valid: {', '.join(names) or 'none'}"
