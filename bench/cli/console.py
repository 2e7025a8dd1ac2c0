"""Console of all tables and progress bars: texts are shown without control characters."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bench.escape import clean_line, clean_text


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

    def print_sentences(self, sentences: Iterable[str], style: str | None = None) -> None:
        """Print each sentence as a paragraph."""
        for sentence in sentences:
            self.print(clean_line(sentence), style=style)
