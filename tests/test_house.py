"""The plan of the house: which room may import which, and how large a room may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted((ROOT / "bench").rglob("*.py"))
SOURCES = sorted(file for folder in ("bench", "methods", "tasks", "models") for file in (ROOT / folder).rglob("*.py"))

# A new room is a conscious act: a file of bench/ that does not stand here fails.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__init__", "record", "samples", "cost", "refusal", "units", "words"}),
    frozenset({"method", "card", "task", "budget", "metrics", "job", "progress", "artefact"}),
    frozenset(
        {
            "registry",
            "audit",
            "wording",
            "lm",
            "heads",
            "decode",
            "checkpoint",
            "gradient",
            "train",
            "encoder",
            "loaded",
            "dice",
            "microbatch",
            "preference",
            "cap",
            "forgetting",
            "meter",
            "environment",
            "flops",
            "order",
            "energy",
            "forecast",
            "adapters",
            "source",
            "hub",
            "recipe",
            "cells",
            "architecture",
            "weights",
            "adapted",
            "device",
            "precision",
            "proof",
            "resources",
            "ranks",
            "accelerated",
        }
    ),
    frozenset(
        {
            "plan",
            "launch",
            "executor",
            "cluster",
            "node",
            "nursery",
            "worker",
            "crew",
            "testing",
            "validate",
            "tune",
            "stack",
            "draft",
            "survey",
            "provenance",
            "parcel",
            "export",
        }
    ),
    frozenset({"options"}),
    frozenset({"running", "reading", "making", "looking", "taking"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
# The half that reads stands between the contracts and the command line, in layers of its own: from records to a page.
READING_LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"terms", "prior", "stats", "figures", "archive"}),
    frozenset({"contrast"}),
    frozenset({"rows", "trackers"}),
    frozenset({"comparison", "costing", "columns", "limits"}),
    frozenset({"sections"}),
    frozenset({"notes", "table", "learning", "drawing", "pairing", "baseline"}),
    frozenset({"advice", "plots", "gates"}),
    frozenset({"counsel", "falls", "speed"}),
    frozenset({"views", "overview", "check"}),
    frozenset({"report", "verdicts"}),
)
LAYER: dict[str, float] = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
LAYER |= {room: 2 + number / 10 for number, rooms in enumerate(READING_LAYERS) for room in rooms}
READING = frozenset.union(*READING_LAYERS)
SHARED = {
    "__init__",
    "__main__",
    "record",
    "samples",
    "cost",
    "refusal",
    "units",
    "words",
    "options",
    "running",
    "reading",
    "making",
    "looking",
    "taking",
    "cli",
    "testing",
}
RUNNING = frozenset(LAYER) - READING - SHARED
# Within a layer rooms do not know each other, but for these: (who, whom).
SAME_LAYER = {
    ("record", "cost"),  # a record holds what the run cost
    ("record", "samples"),
    ("samples", "cost"),  # a sample is a closed piece of a record
    ("budget", "method"),  # the purse speaks the contract's exceptions
    ("task", "card"),  # a task is a card and its examples
    ("card", "metrics"),  # and says how answers are normalised
    ("task", "metrics"),  # a task scores its own answers
    ("source", "hub"),  # a data set of the hub is a source of rows too
    ("source", "wording"),  # the same question is told by its words
    ("cells", "source"),
    ("cells", "wording"),
    ("recipe", "cells"),
    ("recipe", "hub"),
    ("recipe", "source"),
    ("recipe", "wording"),
    ("checkpoint", "lm"),  # weights on disk become a model that answers
    ("checkpoint", "adapted"),  # a base may be an adapter on another model
    ("checkpoint", "architecture"),
    ("checkpoint", "weights"),
    ("adapted", "architecture"),
    ("adapted", "weights"),
    ("adapted", "registry"),  # an adapter names its base as a user would
    ("registry", "hub"),
    ("train", "precision"),
    ("train", "ranks"),  # several processes may train one run
    ("microbatch", "ranks"),
    ("order", "ranks"),  # each shows its part of every step
    ("ranks", "environment"),  # the first has the cores of all when the others have left
    ("accelerated", "environment"),
    ("accelerated", "device"),
    ("audit", "checkpoint"),  # data is measured with a model's tokenizer
    ("audit", "wording"),  # leaks and near duplicates are a matter of words
    ("gradient", "train"),  # the family of trained methods has one engine
    ("flops", "meter"),  # both wait for a device
    ("order", "lm"),  # rows that only fill a batch up have nothing to learn
    ("adapters", "meter"),  # in service an adapter is asked one by one, as before
    ("lm", "cap"),  # a batch that does not fit is answered in parts
    ("encoder", "loaded"),  # what any model counts and batches alike
    ("lm", "loaded"),
    ("lm", "forecast"),  # as many rows at once as memory is to be spent on
    ("encoder", "forecast"),
    ("lm", "decode"),  # rows that have ended are left out
    ("lm", "heads"),  # what stands before all prompts is read once
    ("lm", "dice"),  # sampling is greedy decoding of noisy scores
    ("encoder", "cap"),
    ("checkpoint", "encoder"),
    ("train", "lm"),
    ("microbatch", "cap"),
    ("train", "microbatch"),  # a step of any size is made of what fits
    ("meter", "energy"),
    ("meter", "environment"),  # what a process holds is read in one place
    ("cap", "environment"),
    ("train", "forecast"),
    ("train", "flops"),
    ("train", "order"),
    ("preference", "order"),
    ("preference", "gradient"),
    ("preference", "train"),  # the second lesson is taught as the first is
    ("words", "refusal"),
    ("executor", "launch"),
    ("executor", "cluster"),
    ("cluster", "launch"),  # a folder has one lock, and a run without a record one kind of obituary
    ("cluster", "plan"),
    ("cluster", "node"),
    ("node", "launch"),  # a run is the same wherever it is made
    ("launch", "plan"),  # what has a record already is not launched again
    ("launch", "nursery"),  # a run is forked where it can be
    ("nursery", "worker"),
    ("crew", "worker"),  # the first of several does what one alone would
    ("validate", "testing"),  # a method is sound if it keeps the contract
    ("export", "launch"),  # what was not kept is run again
    ("export", "parcel"),
    ("export", "provenance"),
    ("parcel", "provenance"),
    ("parcel", "worker"),  # what a checkpoint leaves to chance is drawn as in the run
    ("testing", "worker"),  # the contract is tested with the seeding of a real run
}
LEARNING = {"torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes", "sklearn", "evaluate"}
FILE_LINES = 300
FUNCTION_LINES = 50


def imported(file: Path) -> Iterator[str]:
    """The full dotted name of all that a file imports, wherever in it; `from a import b` counts as `a.b`."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # The files of bench/ lie flat, so one dot is the package.
            source = ".".join(part for part in ("bench" if node.level else "", node.module) if part)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def neighbours(file: Path) -> Iterator[str]:
    """The rooms of bench/ that a file of bench/ imports."""
    for name in imported(file):
        package, _, rest = name.partition(".")
        if package == "bench":
            room = rest.partition(".")[0]
            yield room if room in LAYER else "__init__"


def room_of(file: Path) -> str:
    """A file of bench/ is a room, and so is a folder of plots."""
    return file.relative_to(ROOT / "bench").parts[0].removesuffix(".py")


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


PLANNED = [file for file in ROOMS if room_of(file) in LAYER]


def test_every_room_stands_in_the_plan() -> None:
    unplanned = [named(file) for file in ROOMS if room_of(file) not in LAYER]
    assert not unplanned, f"not in the plan of the house (tests/test_house.py, LAYERS): {unplanned}"


@pytest.mark.parametrize("file", PLANNED, ids=named)
def test_a_room_imports_only_from_lower_layers(file: Path) -> None:
    room = room_of(file)
    wrong = {
        other
        for other in neighbours(file)
        if other != room and LAYER[other] >= LAYER[room] and (room, other) not in SAME_LAYER
    }
    assert not wrong, f"{room} (layer {LAYER[room]}) imports {sorted(wrong)} of its own or a higher layer"


@pytest.mark.parametrize("file", ROOMS, ids=named)
def test_running_and_reading_never_import_each_other(file: Path) -> None:
    other_half = {True: READING, False: RUNNING}
    if room_of(file) in RUNNING | READING:
        assert not set(neighbours(file)) & other_half[room_of(file) in RUNNING]


@pytest.mark.parametrize("file", ROOMS, ids=named)
def test_methods_are_found_by_name_and_never_imported(file: Path) -> None:
    wrong = [
        name
        for name in imported(file)
        if name.split(".")[0] in ("methods", "tasks") or name.startswith("bench.methods")
    ]
    assert not wrong


@pytest.mark.parametrize("file", [file for file in SOURCES if file.parent.name == "methods"], ids=named)
def test_a_method_reaches_its_neighbours_by_relative_import(file: Path) -> None:
    tops = {name.split(".")[0] for name in imported(file)}
    assert "methods" not in tops
    assert not [name for name in imported(file) if name.startswith("bench.methods")]


@pytest.mark.parametrize("file", PLANNED, ids=named)
def test_contracts_and_the_reading_half_import_no_learning_library(file: Path) -> None:
    if LAYER[room_of(file)] <= 1 or room_of(file) in READING:
        assert not {name.split(".")[0] for name in imported(file)} & LEARNING


@pytest.mark.parametrize("file", SOURCES, ids=named)
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE_LINES
    sizes = [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)  # a list: one may stand within its namesake
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [(name, lines) for name, lines in sizes if lines > FUNCTION_LINES]
