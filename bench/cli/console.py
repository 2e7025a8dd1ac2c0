"""Console of all tables and progress bars: texts are shown without control characters."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bench.escape import clean_line, clean_text

if TYPE_CHECKING:
    from bench.report.next_steps import NextStep

MAX_TABLE_COLUMNS = 1000
"""Width within which a table that is not to be cut is measured."""


def _rstrip_end(self: Text, size: int) -> None:
    """Remove white space at the end of a line beyond a width in terminal cells."""
    excess = self.cell_len - size
    spaces = len(self.plain) - len(self.plain.rstrip())
    if excess > 0 and spaces:
        self.right_crop(min(spaces, excess))


# rich measures the line in characters. A line of Hangul then keeps the space at its end, so that the line is too wide
# by one cell and loses its last word.
Text.rstrip_end = _rstrip_end  # type: ignore[method-assign]


class PlainConsole(Console):
    """Console that reads no markup in texts and escapes their control characters."""

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        # A progress bar puts a stream of its own in place of the standard streams, so the file is fixed here.
        file = getattr(stream, "rich_proxied_file", stream)
        super().__init__(file=file, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """Return a text as rich's `Text`."""
        return super().render_str(clean_text(text), **kwargs)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything that is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean_text(segment.text), segment.style)

    def print_whole(self, table: Table) -> None:
        """Print a table in its full width, also where the terminal is narrower."""
        terminal_width = self.width
        unlimited = self.options.update(width=MAX_TABLE_COLUMNS)
        self.width = max(terminal_width, Measurement.get(self, unlimited, table).maximum)
        self.print("", table)
        self.width = terminal_width

    def print_next_steps(self, steps: Sequence[NextStep], heading: str) -> None:
        """Print commands, each on one unbroken line, with its purpose below it."""
        self.print(f"\n{heading}")
        for step in steps:
            self.print(f"  {clean_line(step.command)}", style="bold", soft_wrap=True)
            self.print(Padding(clean_line(step.purpose), (0, 0, 0, 6), expand=False))

    def print_advice(self, sentences: Sequence[str]) -> None:
        """Print the recommendation so that it stands out, and its reasons below it."""
        if self.is_terminal:
            self.print()
        self.print_sentences(sentences[:1], style="bold")
        self.print_sentences(sentences[1:])

    def print_sentences(self, sentences: Iterable[str], style: str | None = None) -> None:
        """Print each sentence as a paragraph."""
        for sentence in sentences:
            self.print(clean_line(sentence), style=style)
