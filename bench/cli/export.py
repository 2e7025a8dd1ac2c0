"""The verbs that take a result home: `export` and `answer`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Format, Formatted
from bench.errors import Refused, did_you_mean

if TYPE_CHECKING:
    from bench.export.provenance import Found

Named = Annotated[str, typer.Argument(help="A record: its file, or its id in results/.")]
RESULTS = Path("results")
SHOWN = 5  # answers that differ, so that they stay on one screen


def export(
    record: Named,
    to: Annotated[Path, typer.Option(help="The folder to make.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="One whole model, with what was learnt in its weights.")
    ] = False,
    check: Annotated[int, typer.Option(min=1, help="Recorded answers to compare, from the first on.")] = 8,
    format: Formatted = Format.table,
) -> None:
    """Write what a run fitted as plain libraries load it, with its settings and a script that answers as it did.

    What the run did not keep (bench run --keep) is fitted again. Exit code: 0 done; 1 done, but not all answers that
    were compared are those of the record; 2 bad input (nothing is written).
    """
    from bench.export import export as exports

    exports.check_target(to)
    found = _found(record)
    with _progress() as show:
        done = exports.export(found, to, merge=merge, check=check, show=show)
    if format is Format.json:
        print(
            json.dumps({"folder": str(to), "says": done.sentences, "differences": done.differences}, ensure_ascii=False)
        )
    else:
        rest = len(done.differences) - SHOWN
        more = [f"… and {rest} more"] if rest > 0 else []
        print("\n".join([*done.sentences, *done.differences[:SHOWN], *more, f"Read {to / 'README.md'}"]))
    sys.exit(1 if done.differences else 0)


def answer(
    record: Annotated[str, typer.Argument(help="A record: its file, or its id in results/; or an exported folder.")],
    question: Annotated[list[str], typer.Argument(help="What to ask; - reads questions from the input, one a line.")],
    format: Formatted = Format.table,
) -> None:
    """Ask what a run fitted, under the template and the decoding of the run.

    What the run did not keep (bench run --keep) is fitted again, which takes as long as it did; an exported folder
    answers at once. Exit code: 0 answered, 2 bad input.
    """
    asked = [line.rstrip("\n") for line in sys.stdin if line.strip()] if question == ["-"] else list(question)
    if not any(text.strip() for text in asked):
        raise Refused("there is no question", mend='bench answer RECORD "a question"')
    from bench.export import export as exports
    from bench.export import script_check
    from bench.export.bundle import SCRIPT

    if (Path(record) / SCRIPT).is_file():
        told = [f"Answered by {Path(record) / SCRIPT}."]
        answers = [trimmed for _, trimmed in script_check.ask(Path(record) / SCRIPT, asked)]
    else:
        found = _found(record)
        with _progress() as show:
            answers, told = exports.answers(found, asked, show)
    if format is Format.json:
        pairs = [{"question": said, "answer": text} for said, text in zip(asked, answers, strict=True)]
        print(json.dumps({"answers": pairs, "says": told}, ensure_ascii=False))
        return
    print("\n".join(told), file=sys.stderr)
    print("\n".join(answers))


def _found(named: str) -> Found:
    """The record that a path or an id names, with all it was made of."""
    file = Path(named)
    if not file.is_file():
        file = RESULTS / f"{named.removesuffix('.json')}.json"
    if not file.is_file():
        ids = [place.stem for place in RESULTS.glob("*.json")] if RESULTS.is_dir() else []
        raise Refused(f"no record '{named}'", mend=f"a record's file, or an id in {RESULTS}/: {_few(named, ids)}")
    from bench.export import provenance
    from bench.records import reader

    return provenance.find(reader.read_file(file), file)


def _few(named: str, ids: list[str]) -> str:
    """The ids that are nearest to a name, so that the error stays on one screen."""
    import difflib

    return did_you_mean(named, difflib.get_close_matches(named, ids, n=5, cutoff=0.0))


@contextmanager
def _progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A line that tells what is going on, and goes when it is over."""
    from rich.console import Console

    with Console(stderr=True).status("starting") as line:
        yield lambda state: line.update(_state(state))


def _state(state: dict[str, Any]) -> str:
    steps = f" · step {state['step']} of {state['steps']}" if state.get("steps") else ""
    return f"{state.get('phase', 'starting')}{steps}"
