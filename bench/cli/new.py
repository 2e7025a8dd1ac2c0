"""The verbs that make: `new task` and `new method`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.errors import UserError

METHOD_TEMPLATE = Path(__file__).parent / "new_method.txt"


def method_command(name: Annotated[str, typer.Argument(help="Its name: mine makes mine.py.")]) -> None:
    """Make a method of your own: a file that runs and keeps the contract, to be changed.

    Exit code: 0 made, 2 bad input (nothing is written).
    """
    stem = name.removesuffix(".py").replace("-", "_")
    if not stem.isidentifier():
        raise UserError(f"'{name}' is no name for a method", hint="letters, digits and hyphens, as in my-method")
    file = Path(f"{stem}.py")
    if file.exists():
        raise UserError(f"{file} is there already", hint="choose another name, or remove it")
    title = "".join(part.capitalize() for part in stem.split("_"))
    file.write_text(METHOD_TEMPLATE.read_text("utf-8").replace("{{name}}", title), "utf-8")
    print(f"{file}: change it, then: bench validate ./{file}, bench run --methods ./{file} --task bookrec")


def task_command(
    name: Annotated[str, typer.Argument(help="The task's name, or the folder to make.")],
    source: Annotated[
        str, typer.Option("--from", help="A .jsonl, .json, .csv, .tsv or .parquet file, or hf:NAME, hf:NAME@revision.")
    ],
    input: Annotated[str | None, typer.Option(help="Column of what is asked.")] = None,
    target: Annotated[str | None, typer.Option(help="Column of what is wanted.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws which rows are for the test.")] = 0,
    model: Annotated[str, typer.Option(help="Whose tokenizer counts answers: shipped, folder or hub.")] = "bookworm",
) -> None:
    """Make a task folder of your rows, split without leaks, and check it.

    Exit code: 0 sound, 1 made but at fault, 2 bad input (nothing is written).
    """
    import sys

    from bench import registry
    from bench.cli.validate import validate
    from bench.data import readers as sources
    from bench.data import task_builder as drafts
    from bench.modeling import checkpoint

    folder = Path(name)
    base = registry.find_model(model)
    checkpoint.check_model_folder(base)
    count = checkpoint.load_tokenizer(base)
    read, room = sources.read_source(source, input, target), checkpoint.context_length(base)
    made = drafts.build_task(read, folder.name, lambda text: len(count(text, False)), seed, room)
    made.write(folder)
    for note in made.notes:
        print(f"- {note}")
    verdict = validate(f"./{folder}" if not folder.is_absolute() else str(folder), model)
    verdict.show()
    print(f"Look at {folder / 'task.yaml'}, then: bench run --methods few-shot,lora --task ./{folder}")
    sys.exit(0 if verdict.valid else 1)
