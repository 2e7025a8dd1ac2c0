"""General text on which forgetting is measured: the shipped one, or a file of the user's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Self

from bench import registry
from bench.errors import UserError
from bench.escape import clean_line
from bench.i18n import Message
from bench.records import FrozenModel

MIN_CHARACTERS = 500
"""Characters of the shortest text; fewer tokens than these make would say little about a model."""
MAX_CHARACTERS = 200_000
"""Characters of a text that are read; forgetting is measured on fewer tokens than they make."""
PIECE_CHARACTERS = 400
"""Characters of the pieces that a plain text is cut into, after white space where there is any."""


class GeneralText(FrozenModel):
    """Texts without relation to the task, read before a run is planned."""

    name: str | None
    """Name of the user's file; None for the shipped text."""
    sha256: str
    """Digest of the whole file."""
    texts: tuple[str, ...]

    @classmethod
    def shipped(cls) -> Self | None:
        """Return the text that ships with the package; None if it is not installed."""
        file = registry.general_text_file()
        if file is None:
            return None
        content = file.read_bytes()
        texts = tuple(json.loads(line)["text"] for line in content.splitlines() if line.strip())
        return cls(name=None, sha256=hashlib.sha256(content).hexdigest(), texts=texts)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a UTF-8 text of the user's.

        Raises:
            UserError: The file is missing, cannot be read, is empty, too short or no text.
        """
        option = f"--general-text {file}"
        hint = Message(
            "--general-text FILE, with a UTF-8 text of what the model should still be good at after training"
        )
        if not file.is_file():
            problem = Message("is a folder") if file.is_dir() else Message("file not found")
            raise UserError(
                Message("{option}: {problem}", option=option, problem=problem), location=str(file.absolute()), hint=hint
            )
        try:
            content = file.read_bytes()
            text = content.decode("utf-8-sig")
        except OSError as error:
            raise UserError(
                Message("{option}: cannot be read: {reason}", option=option, reason=error.strerror),
                location=str(file),
                hint=hint,
            ) from None
        except UnicodeDecodeError as error:
            raise UserError(
                Message(
                    "{option}: not a UTF-8 text: invalid byte at position {start}", option=option, start=error.start
                ),
                location=str(file.absolute()),
                hint=Message("save the file as UTF-8; a document such as PDF has to be saved as plain text first"),
            ) from None
        if "\0" in text:
            raise UserError(
                Message("{option}: not a text: it holds NUL bytes", option=option),
                location=str(file.absolute()),
                hint=hint,
            )
        length = len(" ".join(text.split()))
        if length < MIN_CHARACTERS:
            problem = (
                Message("too short: {length} characters without repeated white space", length=length)
                if length
                else Message("empty")
            )
            raise UserError(
                Message("{option}: {problem}", option=option, problem=problem),
                location=str(file.absolute()),
                hint=Message(
                    "use a text of at least {needed} characters, better of some pages",
                    needed=MIN_CHARACTERS,
                ),
            )
        return cls(
            name=clean_line(file.name), sha256=hashlib.sha256(content).hexdigest(), texts=tuple(cut_pieces(text))
        )


def cut_pieces(text: str) -> list[str]:
    """Cut the first `MAX_CHARACTERS` of a text into pieces that begin after white space."""
    pieces = []
    rest = text[:MAX_CHARACTERS].strip()
    while len(rest) > PIECE_CHARACTERS:
        end = max(map(rest[:PIECE_CHARACTERS].rfind, ("\n", " ")))
        end = end if end > PIECE_CHARACTERS // 2 else PIECE_CHARACTERS
        pieces.append(rest[:end].strip())
        rest = rest[end:].strip()
    return [piece for piece in [*pieces, rest] if piece]
