"""Options, arguments and terminal output that several commands share."""

from __future__ import annotations

import errno
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench import i18n
from bench.errors import StorageError, UserError, did_you_mean
from bench.i18n import Message, Translate

if TYPE_CHECKING:
    from bench.export.provenance import Provenance, Replacements
    from bench.method import ProgressCallback, ProgressState

RESULTS = Path("results")


PHASE_WORDS = {
    "starting": Message("starting"),
    "import": Message("import"),
    "load": Message("load"),
    "fit": Message("fit"),
    "predict": Message("predict"),
    "shifted": Message("shifted"),
    "latency": Message("latency"),
    "general_text_before": Message("general_text_before"),
    "general_text_after": Message("general_text_after"),
    "adapter_serving": Message("adapter_serving"),
    "rate": Message("rate"),
    "check": Message("check"),
    "pack": Message("pack"),
}
"""Phases of a run by the names in its events, which come from another process."""


class Format(StrEnum):
    """Format of the results on standard output."""

    table = "table"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="Output format; json prints one document as last line.")]
RecordPaths = Annotated[
    list[Path] | None, typer.Argument(help="Record files or folders of records.", show_default="results/")
]
RecordName = Annotated[str, typer.Argument(help="Record file, or the id of a record in results/.")]
TaskPlace = Annotated[str | None, typer.Option("--task", help="Task of the run if it has moved, e.g. ./mytask.")]
ModelPlace = Annotated[str | None, typer.Option("--model", help="Base model of the run if it has moved.")]
MethodPlace = Annotated[str | None, typer.Option("--method", help="Method of the run if it has moved, e.g. ./mine.py.")]
Terms = Annotated[
    str, typer.Option("--terms", help="Runs to show where settings differ: newest, all, or an id from the report.")
]


def choose_language(language: str | None) -> str | None:
    """Set the language of the command; it stays as it is if the option is not given."""
    if language is not None:
        _chosen.language = require_language(language)
    return language


def require_language(language: str) -> str:
    """Return the language of `--lang`, e.g. `ko` for `ko`, `KO` and `ko_KR.UTF-8`.

    Raises:
        UserError: There is no translation into the language.
    """
    code = i18n.language_code(language)
    if code not in i18n.languages():
        raise UserError(
            Message("--lang {language}: language not available", language=language),
            hint=did_you_mean(code, i18n.languages()),
        )
    return code


Language = Annotated[
    str | None,
    typer.Option("--lang", callback=choose_language, help="Output language: en or ko.", show_default="of the locale"),
]
"""Option that every command takes before and after its name; its callback sets the language, see `translator`."""


class _Chosen:
    """Language of the running command."""

    language = "en"


_chosen = _Chosen()


def start_language(arguments: Sequence[str]) -> None:
    """Set the language of `--lang`, or of the locale, for help and errors of other options.

    It is English if the terminal cannot show the language of the locale. An invalid `--lang` is left to the option.
    """
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option == "--lang":
            code = i18n.language_code(value if equals else "".join(arguments[index + 1 : index + 2]))
            if code in i18n.languages():
                _chosen.language = code
                return
    language = i18n.environment_language()
    sample = "".join(i18n.catalog(language).values()) if language != "en" else ""
    _chosen.language = language if _is_encodable(sample) else "en"


def _is_encodable(text: str) -> bool:
    """Tell if the letters of a text can be printed; symbols such as ° have replacements."""
    letters = "".join(char for char in text if char.isalpha())
    try:
        letters.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def language() -> str:
    """Return the language of `--lang`, or of the locale."""
    return _chosen.language


def translator(format: Format = Format.table) -> Translate:
    """Return the translator into the language of the command; JSON stays English."""
    return i18n.untranslated if format is Format.json else i18n.translator(language())


def localize(text: str) -> str:
    """Translate a `Message` into the language of the command; other texts stay as they are."""
    return i18n.localize(text, translator())


def command_arguments(name: str) -> list[str]:
    """Return the command line from the name of the command on."""
    arguments = sys.argv[1:]
    return arguments[arguments.index(name) :] if name in arguments else arguments


def read_command(name: str, paths: list[Path] | None) -> str:
    """Return the command line that reads the same records again."""
    return shlex.join(["bench", name, *map(str, paths or [])])


def check_writable(out: Path) -> None:
    """Create the folder of `--out`.

    Raises:
        UserError: The folder cannot be written.
        StorageError: The disk is full.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(b"x")
    except OSError as error:
        error_class = StorageError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
        raise error_class(
            Message("--out {out}: cannot be written: {reason}", out=out, reason=error.strerror),
            location=str(out.absolute()),
            hint=Message("--out FOLDER, with a folder that you may write to and room on its disk"),
        ) from None


def find_record(name: str, replacements: Replacements) -> Provenance:
    """Read the record of a path or an id in `results/`, with its task, model and method.

    Says on standard error which files of the user are run.

    Raises:
        UserError: There is no such record, or its task, model or method is missing or changed.
    """
    file = Path(name)
    if not file.is_file():
        file = RESULTS / f"{name.removesuffix('.json')}.json"
    if not file.is_file():
        ids = [path.stem for path in RESULTS.glob("*.json")] if RESULTS.is_dir() else []
        hint = Message(
            "give a record file, or an id in {results}/: {suggestion}",
            results=RESULTS,
            suggestion=_similar_ids(name, ids),
        )
        raise UserError(Message("no record '{name}'", name=name), hint=hint)
    from bench.export import provenance
    from bench.records import reader

    def announce(line: str) -> None:
        print(localize(line), file=sys.stderr)

    return provenance.find_provenance(reader.read_file(file), file, replacements, announce)


def _similar_ids(name: str, ids: list[str]) -> str:
    """Suggest at most five ids, so that the error stays on one screen."""
    import difflib

    return did_you_mean(name, difflib.get_close_matches(name, ids, n=5, cutoff=0.0))


@contextmanager
def status_line() -> Iterator[ProgressCallback]:
    """Show a status line on standard error; yields its progress callback."""
    from rich.text import Text

    from bench.cli.console import PlainConsole

    translate = translator()
    with PlainConsole(stderr=True).status(translate("starting")) as line:
        yield lambda state: line.update(Text(describe_progress(state, translate)))


def describe_progress(state: ProgressState, translate: Translate) -> str:
    """Describe the phase of a run and its use of the budget in one line."""
    parts = []
    if "node" in state:
        parts.append(translate("on {node}", node=state["node"]))
    if "trial" in state:
        parts.append(translate("trial {trial}", trial=state["trial"]))
    phase = state.get("phase") or "starting"
    parts.append(i18n.localize(PHASE_WORDS.get(phase, phase), translate))
    if state.get("steps"):
        parts.append(translate("step {step} of {steps}", step=state["step"], steps=state["steps"]))
        parts.append(translate("{tokens:,} tokens", tokens=state["tokens"]))
        if state.get("granted_s"):
            limits = {"spent": state["spent_s"], "granted": state["granted_s"]}
            parts.append(translate("{spent:.0f} of {granted:g} s", **limits))
        else:
            parts.append(translate("{number} s", number=f"{state['spent_s']:.0f}"))
    return " · ".join(parts)
