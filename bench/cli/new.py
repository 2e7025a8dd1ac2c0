"""The commands `bench new task` and `bench new method`."""

from __future__ import annotations

import keyword
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Language, localize
from bench.errors import UserError
from bench.i18n import Message

if TYPE_CHECKING:
    from bench.data.task_builder import TaskDraft

METHOD_TEMPLATE = Path(__file__).parent / "new_method.txt"


def method_command(
    name: Annotated[str, typer.Argument(help="Name of the method, e.g. mine for mine.py.")], lang: Language = None
) -> None:
    """Create a method file that already works, for you to edit.

    Exit code: 0 created; 2 invalid input (nothing is written).
    """
    stem = name.removesuffix(".py").replace("-", "_")
    class_name = "".join(part.capitalize() for part in stem.split("_"))
    if not stem.isidentifier() or not class_name.isidentifier() or keyword.iskeyword(class_name):
        raise UserError(
            Message("'{name}' is not a valid method name", name=name),
            hint=Message("use letters, digits and hyphens, as in my-method"),
        )
    file = Path(f"{stem}.py")
    if file.exists():
        raise UserError(
            Message("{file} exists already", file=file), hint=Message("choose another name, or remove the file")
        )
    file.write_text(METHOD_TEMPLATE.read_text("utf-8").replace("{{name}}", class_name), "utf-8")
    created = Message(
        "Created {file}. Edit it, then: bench validate ./{file}, bench run --methods ./{file} --task bookrec", file=file
    )
    print(localize(created))


def task_command(
    name: Annotated[str, typer.Argument(help="Task name or folder to create, e.g. mytask.")],
    source: Annotated[
        str, typer.Option("--from", help="Rows: a csv, tsv, xlsx, jsonl, json or parquet file, or hf:NAME@revision.")
    ],
    input: Annotated[str | None, typer.Option(help="Column of the question, e.g. question.")] = None,
    target: Annotated[str | None, typer.Option(help="Column of the correct answer, e.g. answer.")] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Sheet of an xlsx file, e.g. Sheet2.", show_default="first with rows")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of what questions have in common, e.g. passage.", show_default="none")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of the split.")] = 0,
    model: Annotated[str, typer.Option(help="Model whose tokenizer counts answer tokens.")] = "bookworm",
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Copy the task folder of --from without repeated questions.")
    ] = False,
    lang: Language = None,
) -> None:
    """Create a task folder from rows: split without leaks, and checked.

    Exit code: 0 created and valid; 1 created, but has errors; 2 invalid input
    (nothing is written).
    """
    from bench import registry
    from bench.cli.validate import validate
    from bench.data import task_builder
    from bench.modeling import checkpoint

    folder = Path(name)
    task_builder.check_new_folder(folder)
    model_folder = registry.find_model(model)
    checkpoint.check_model_folder(model_folder)
    if Path(source).is_dir():
        if not drop_leaks or input or target or sheet or group:
            hint = Message(
                "copy it without leaks: bench new task {name} --from {source} --drop-leaks", name=name, source=source
            )
            raise UserError(Message("--from {source} is a folder, not a file of rows", source=source), hint=hint)
        draft = task_builder.copy_without_leaks(Path(source), folder.name)
    else:
        columns = {"input": input, "target": target, "sheet": sheet, "group": group}
        draft = draft_task(source, folder.name, model_folder, **columns, seed=seed)
        if drop_leaks:
            draft.notes.append(Message("no row left out: every question is in one split"))
    draft.write(folder)
    for note in draft.notes:
        print(f"- {localize(note)}")
    task = str(folder) if folder.is_absolute() else f"./{folder}"
    result = validate(task, model)
    result.show()
    print(localize(Message("Review {file}, then:", file=folder / "task.yaml")))
    print(f"bench run --methods few-shot,lora --task {shlex.quote(task)}")
    sys.exit(0 if result.valid else 1)


def draft_task(
    source: str,
    name: str,
    model_folder: Path,
    *,
    input: str | None,
    target: str | None,
    sheet: str | None,
    group: str | None,
    seed: int = 0,
) -> TaskDraft:
    """Make a task from rows, without writing it.

    Args:
        source: File of rows, or a data set on the hub.
        name: Name of the task.
        model_folder: Folder of the model whose tokenizer counts the tokens of answers.
        input: Column of the question; None to recognize it.
        target: Column of the correct answer; None to recognize it.
        sheet: Sheet of an xlsx file; None for the first with rows.
        group: Column of the group of a question; None without groups.
        seed: Random seed of the split.

    Raises:
        UserError: The rows cannot be used.
    """
    from bench.data import readers, task_builder
    from bench.modeling import checkpoint

    tokenize = checkpoint.load_tokenizer(model_folder)
    rows = readers.read_source(source, input, target, sheet, group)
    context = checkpoint.context_length(model_folder)
    return task_builder.build_task(rows, name, lambda text: len(tokenize(text, False)), seed, context)
