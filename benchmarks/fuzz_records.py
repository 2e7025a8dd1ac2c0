"""Read thousands of damaged records with every command that reads records, and report tracebacks and silent passes.

Run: python benchmarks/fuzz_records.py [--mutants 2000] [--seed 0] [--commands check,advise] [--all-plots]

A mutant is a folder with six committed records (few-shot and lora, three seeds, their first 100 questions; of schema 1,
or written again as schema 2), of which one is damaged or which has odd files beside them. Each command runs in this
process. A fault is a command that ends with an internal error or does not end, and a `bench check` that passes although
something that it has to judge is different: ids, settings, status, scores, question ids or counts. Without
`--all-plots` each report draws one of the plots in turn, which takes a fifth of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from bench import cli
from bench.records import Record, Spec
from bench.records.schema_1 import upgrade_record
from bench.report import pages

BASELINE = Path(__file__).parents[1] / "results" / "baselines" / "ci"
PATTERNS = ("*few-shot*.json", "*lora*.json")
COMMANDS = {
    "check": ["check", "new", "--baseline", "old", "--junit", "out.xml", "--markdown", "out.md"],
    "compare": ["compare", "old", "new"],
    "advise": ["advise", "new"],
    "report": ["report", "new", "--out", "report"],
}
TIME_LIMIT_S = 120
N_QUESTIONS = 100
INTERNAL_ERROR = "internal error"

HUGE = "an integer of 5,000 digits"
"""Text in place of a number that Python does not write."""
ODD_STRINGS = (
    "", " ", ".", "..", "../../x", "/etc/passwd", "a/b", "a\\b", "$x$", "$\\frac{", "$_$^$", "\\$", "{x}", "{", "%s%n",
    "<script>alert(1)</script>", "a|b", "`a`", "=1+1", "NaN", "a" * 300, "가" * 200, "\x1b[31mred", "\x00", "a\nb",
    "\u202eabc", "\ud800", "\U0001f600", "[bold]x[/bold]", "--help",
)  # fmt: skip
ODD_NUMBERS = (
    0, -0.0, -1, 1, 2, 500, 0.5, 1e-320, 1e308, -1e308, 1e29, 1e31, float("inf"), float("-inf"), float("nan"), 2**31,
    2**63 - 1, 2**63, 2**64, 10**400, HUGE,
)  # fmt: skip
OTHER_TYPES: tuple[Any, ...] = (None, True, False, "1", "0.5", "text", 1, 0.5, [], {}, [[]], [1], {"a": 1}, "", [None])

Content = dict[str, Any]
Path_ = tuple[Any, ...]


class TimeLimitError(Exception):
    """A command took longer than `TIME_LIMIT_S`."""


@dataclass
class Mutant:
    """A folder of records in which a mutation changes something."""

    folder: Path
    files: list[Path]
    rng: random.Random
    description: str = ""

    @property
    def file(self) -> Path:
        """The record file that is damaged."""
        return self.files[0]

    def read(self) -> Content:
        """Return the content of the record that is damaged."""
        content: Content = json.loads(self.file.read_bytes())
        return content

    def write(self, content: Any, file: Path | None = None) -> None:
        """Write a record, with NaN and lone surrogates if it has any."""
        (file or self.file).write_text(json.dumps(content).replace(f'"{HUGE}"', "1" * 5_000), "utf-8")


Mutation = Callable[[Mutant], str]
"""Changes a mutant and returns a description of the change."""
MUTATIONS: list[tuple[int, Mutation]] = []


def mutation(weight: int = 1) -> Callable[[Mutation], Mutation]:
    """Register a mutation, which is chosen in proportion to its weight."""

    def register(function: Mutation) -> Mutation:
        MUTATIONS.append((weight, function))
        return function

    return register


def all_paths(node: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every value in a record; of lists only the first, the middle and the last item."""
    if isinstance(node, dict):
        items = list(node.items())
    elif isinstance(node, list):
        items = [(index, node[index]) for index in sorted({0, len(node) // 2, len(node) - 1}) if 0 <= index < len(node)]
    else:
        items = []
    for key, value in items:
        yield (*path, key)
        yield from all_paths(value, (*path, key))


def value_at(node: Any, path: Path_) -> Any:
    """Return the value at a path."""
    for key in path:
        node = node[key]
    return node


def choose_path(mutant: Mutant, content: Content, kind: type | tuple[type, ...] = object) -> Path_:
    """Choose a path whose value is of a kind; large parts of a record are not chosen more often than small ones."""
    paths_by_part: dict[Any, list[Path_]] = {}
    for path in all_paths(content):
        value = value_at(content, path)
        if isinstance(value, kind) and not (kind == (int, float) and isinstance(value, bool)):
            paths_by_part.setdefault(path[:2], []).append(path)
    return mutant.rng.choice(mutant.rng.choice(list(paths_by_part.values())))


def set_value(mutant: Mutant, kind: type | tuple[type, ...], values: tuple[Any, ...]) -> str:
    """Replace a value of a kind by one of several."""
    content = mutant.read()
    path = choose_path(mutant, content, kind)
    value = mutant.rng.choice(values)
    value_at(content, path[:-1])[path[-1]] = value
    mutant.write(content)
    return f"{'.'.join(map(str, path))} = {value!r:.40}"


@mutation(4)
def delete_key(mutant: Mutant) -> str:
    """Delete a key or an item."""
    content = mutant.read()
    path = choose_path(mutant, content)
    del value_at(content, path[:-1])[path[-1]]
    mutant.write(content)
    return f"without {'.'.join(map(str, path))}"


@mutation(4)
def change_type(mutant: Mutant) -> str:
    """Replace any value by one of another type."""
    return set_value(mutant, object, OTHER_TYPES)


@mutation(6)
def change_number(mutant: Mutant) -> str:
    """Replace a number by a huge, negative, infinite or other odd one."""
    return set_value(mutant, (int, float), ODD_NUMBERS)


@mutation(3)
def change_string(mutant: Mutant) -> str:
    """Replace a text by an odd one."""
    return set_value(mutant, str, ODD_STRINGS)


@mutation(1)
def change_key(mutant: Mutant) -> str:
    """Rename a key by an odd text."""
    content = mutant.read()
    path = choose_path(mutant, content)
    parent, name = value_at(content, path[:-1]), mutant.rng.choice(ODD_STRINGS)
    if isinstance(parent, dict):
        parent[name] = parent.pop(path[-1])
    mutant.write(content)
    return f"{'.'.join(map(str, path))} is named {name!r:.40}"


@mutation(2)
def nest_deeply(mutant: Mutant) -> str:
    """Replace a value by nested lists or dictionaries."""
    content = mutant.read()
    path = choose_path(mutant, content)
    depth, opening, closing = (
        mutant.rng.choice((50, 190, 500, 5_000, 200_000)),
        *mutant.rng.choice(("[]", ('{"a":', "}"))),
    )
    value_at(content, path[:-1])[path[-1]] = "@"
    text = json.dumps(content).replace('"@"', opening * depth + "1" + closing * depth, 1)
    mutant.file.write_text(text, "utf-8")
    return f"{'.'.join(map(str, path))} is nested {depth} deep"


@mutation(1)
def repeat_key(mutant: Mutant) -> str:
    """Give the record a key twice, with another value first or last."""
    content = mutant.read()
    key = mutant.rng.choice(list(content))
    other = json.dumps({key: mutant.rng.choice(OTHER_TYPES)})[1:-1]
    text = json.dumps(content)
    first = mutant.rng.random() < 0.5
    mutant.file.write_text(f"{{{other}, {text[1:]}" if first else f"{text[:-1]}, {other}}}", "utf-8")
    return f"{key} twice, the other value {'first' if first else 'last'}"


@mutation(2)
def damage_bytes(mutant: Mutant) -> str:
    """Truncate the file, replace bytes, or write something that is no JSON text of UTF-8."""
    content, rng = mutant.file.read_bytes(), mutant.rng
    position = rng.randrange(len(content))
    damaged, description = rng.choice(
        (
            (content[:position], f"truncated to {position} bytes"),
            (rng.randbytes(2_000), "random bytes"),
            (content[:position] + rng.randbytes(1) + content[position + 1 :], f"another byte at {position}"),
            (b"\xef\xbb\xbf" + content, "with a byte order mark"),
            (content.decode().encode("utf-16"), "UTF-16"),
            (content + content, "twice"),
            (b"[" + content + b"]", "in a list"),
            (b"[" * 500_000, "500,000 brackets"),
            (b"", "empty"),
            (b"null", "null"),
            (b"{}", "{}"),
        )
    )
    mutant.file.write_bytes(damaged)
    return description


@mutation(4)
def rename_consistently(mutant: Mutant) -> str:
    """Give task, method, model, metric or a hyper-parameter of all records an odd name, with fitting ids."""
    part, value = (
        mutant.rng.choice(("task", "method", "base", "metric", "param", "value")),
        mutant.rng.choice(ODD_STRINGS),
    )
    for file in mutant.files:
        content = json.loads(file.read_bytes())
        spec = content["spec"]
        if part == "metric":
            spec["task"]["metric"] = value
            for scores in (content["scores"], *(sample["scores"] for sample in content["samples"])):
                scores[value] = scores.pop("em")
        elif part == "param":
            spec["method"]["params"][value] = 1
        elif part == "value":
            spec["method"]["params"] = {"odd": value}
        else:
            spec[part]["ref" if part == "base" else "name"] = value
        write_with_id(mutant, content, file)
    return f"{part} is {value!r:.40}"


@mutation(2)
def change_setting(mutant: Mutant) -> str:
    """Give one or all records another setting, with the id that fits it; the old ones may stay in the folder."""
    part, key, value = mutant.rng.choice(
        (
            ("budget", "examples", 64), ("budget", "batch", 2**62), ("budget", "seconds", 1e-300),
            ("base", "dtype", "float16"),
            ("budget", "memory", 10**18), ("decoding", "max_new_tokens", 1), ("method", "control", True),
            ("method", "params", {"rank": 1}), ("method", "params", {}), ("method", "params", {"a": [[1], {"b": 1}]}),
            ("task", "version", 9), ("task", "sha256", "f" * 64), ("base", "sha256", "0" * 64),
        )
    )  # fmt: skip
    keeps_old = mutant.rng.random() < 0.5
    files = mutant.rng.choice((mutant.files, mutant.files[:1]))
    for file in files:
        content = json.loads(file.read_bytes())
        content["spec"][part][key] = value
        for sample in content["samples"]:
            sample["scores"] = dict.fromkeys(sample["scores"], 0.0)
        content["scores"] = dict.fromkeys(content["scores"], 0.0)
        write_with_id(mutant, content, file, keeps_old)
    return f"{part}.{key} = {value!r:.40} in {len(files)} records{', beside the old ones' if keeps_old else ''}"


def write_with_id(mutant: Mutant, content: Content, file: Path, keeps_old: bool = False) -> None:
    """Write a record under the id that its settings have, if they are valid."""
    with contextlib.suppress(ValueError, KeyError):
        content["id"] = Spec.model_validate(upgrade_record(content)["spec"]).id
    name = content["id"].replace("/", "_").replace("\x00", "_")[:150].encode(errors="replace").decode()
    if not keeps_old:
        file.unlink(missing_ok=True)
    mutant.write(content, mutant.folder / f"{name}.json")


@mutation(4)
def lower_scores(mutant: Mutant) -> str:
    """Lower the scores of some answers, with or without other answers and a fitting mean."""
    content, rng = mutant.read(), mutant.rng
    samples = content["samples"]
    correct = [sample for sample in samples if sample["scores"]["em"] > 0]
    chosen = rng.sample(correct, min(len(correct), rng.choice((1, 3, 1_000))))
    changes_answers, fits = rng.random() < 0.3, rng.random() < 0.7
    for sample in chosen:
        sample["scores"] = dict.fromkeys(sample["scores"], 0.0)
    if changes_answers:
        samples[0]["raw"] += "!"
    if fits:
        set_means(content)
    mutant.write(content)
    answers = "with another answer" if changes_answers else "of equal answers"
    return f"{len(chosen)} scores are 0 {answers}, the mean {'fits' if fits else 'stays'}"


@mutation(3)
def change_samples(mutant: Mutant) -> str:
    """Leave out, repeat or rename samples, with a fitting mean."""
    content, rng = mutant.read(), mutant.rng
    samples = content["samples"]
    change = rng.choice(("leave out", "leave out all", "repeat", "rename", "same id", "other answer", "score 500"))
    if change == "leave out":
        del samples[rng.randrange(len(samples))]
    elif change == "leave out all":
        samples.clear()
        content["scores"] = {}
    elif change == "repeat":
        samples.append(samples[0])
    elif change == "rename":
        samples[0]["id"] = "another"
    elif change == "same id":
        samples[0]["id"] = samples[1]["id"]
    elif change == "other answer":
        for sample in samples:
            sample["raw"], sample["scores"] = "?", dict.fromkeys(sample["scores"], 0.0)
    else:
        samples[0]["scores"]["em"] = 500.0
    if samples:
        set_means(content)
    mutant.write(content)
    return f"samples: {change}"


def set_means(content: Content) -> None:
    """Set the scores of a record to the means of its samples."""
    samples = content["samples"]
    content["scores"] = {
        metric: sum(sample["scores"].get(metric, 0) for sample in samples) / len(samples)
        for metric in samples[0]["scores"]
    }


@mutation(3)
def change_files(mutant: Mutant) -> str:
    """Delete or replace record files, or put others beside them."""
    old, rng = mutant.folder.parent / "old", mutant.rng
    file = mutant.file
    change = rng.choice(("delete", "pipe", "link", "hard link", "broken link", "loop", "folder", "second", "all links"))
    target = old / file.name
    if change != "second":
        file.unlink()
    if change == "pipe":
        os.mkfifo(file)
    elif change == "link":
        file.symlink_to(target)
    elif change == "hard link":
        os.link(target, file)
    elif change == "broken link":
        file.symlink_to("nowhere.json")
    elif change == "loop":
        file.symlink_to(file.name)
    elif change == "folder":
        file.mkdir()
    elif change == "second":
        content = json.loads(file.read_bytes())
        content["samples"] = [
            sample | {"scores": dict.fromkeys(sample["scores"], 0.0)} for sample in content["samples"]
        ]
        set_means(content)
        mutant.write(content, mutant.folder / rng.choice(("a.json", "zz.json", "sub.json")))
    elif change == "all links":
        shutil.rmtree(mutant.folder)
        mutant.folder.symlink_to(old)
    return f"file: {change}"


@mutation(1)
def change_status(mutant: Mutant) -> str:
    """Turn the run into a failed one, with or without its results."""
    content = mutant.read()
    content["status"] = mutant.rng.choice(("error", "timeout", "did-not-fit", "unsupported", "fine"))
    content["error"] = {"kind": "K", "message": mutant.rng.choice(ODD_STRINGS[:-4]), "trace": None}
    empty = mutant.rng.random() < 0.7
    if empty:
        content |= {"scores": {}, "samples": [], "cost": None}
    mutant.write(content)
    return f"status {content['status']}, {'without' if empty else 'with'} results"


@mutation(2)
def remove_measurements(mutant: Mutant) -> str:
    """Remove measurements that a run may lack, or set times to zero, in all records of a method or in all."""
    rng = mutant.rng
    change = rng.choice(
        ("cost", "env", "phases", "fit", "predict", "zero", "answering", "parameters", "latency", "curve")
    )
    for file in rng.choice((mutant.files, mutant.files[:1])):
        content = json.loads(file.read_bytes())
        cost = content["cost"]
        if change in ("cost", "env"):
            content[change] = None
        elif change == "phases":
            cost["phases"] = {}
        elif change in ("fit", "predict"):
            cost["phases"].pop(change, None)
        elif change == "zero":
            for phase in cost["phases"].values():
                phase["wall_s"] = 0
        elif change in ("answering", "parameters"):
            cost[change] = None
        elif change == "latency":
            cost["answering"]["latency_ms"] = rng.choice(([], [0], [1e29, 0.0]))
        else:
            content["curve"] = content["curve"][:1] * rng.choice((0, 1, 3))
        mutant.write(content, file)
    return f"measurements: {change}"


def evidence(folder: Path) -> Any:
    """Return what a check has to judge in the records of a folder; None if a file cannot be parsed."""
    judged = []
    for file in sorted(folder.rglob("*.json")):
        try:
            content = upgrade_record(json.loads(file.read_bytes()))
            spec, cost = content["spec"], content["cost"]
            settings = Spec.model_validate(spec).id
            samples = [
                (sample["id"], sorted((name, float(score)) for name, score in sample["scores"].items()))
                for sample in content["samples"]
            ]
            usage = {key: cost["budget_usage"][key] for key in ("steps", "examples", "tokens")}
            judged.append(
                repr(
                    [content["id"], content["status"], settings, sorted(content["scores"].items()), sorted(samples),
                     cost["parameters"], usage]
                )
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    return sorted(judged)


@dataclass
class Outcome:
    """Exit codes of all commands, and the faults."""

    codes: dict[str, Counter[Any]] = field(default_factory=dict)
    tracebacks: list[str] = field(default_factory=list)
    silent_passes: list[str] = field(default_factory=list)


def run_command(arguments: list[str]) -> tuple[Any, str]:
    """Run a command in this process; return its exit code and what it wrote to standard error."""
    out, err, code = io.StringIO(), io.StringIO(), None
    signal.alarm(TIME_LIMIT_S)
    redirected = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with redirected[0], redirected[1], mock.patch.object(sys, "argv", ["bench", *arguments]):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.alarm(0)
    return code or 0, err.getvalue()


def fuzz(n_mutants: int, seed: int, commands: list[str], workspace: Path, one_plot: bool = True) -> Outcome:
    """Make mutants in an empty folder, run the commands on each, and return the outcome."""
    outcome = Outcome({command: Counter() for command in commands})
    originals = sorted(file for pattern in PATTERNS for file in BASELINE.glob(pattern))
    for schema in (1, 2):
        for file in originals:
            folder = workspace / f"schema-{schema}"
            folder.mkdir(exist_ok=True)
            content = json.loads(file.read_bytes())
            del content["samples"][N_QUESTIONS:]
            set_means(content)
            (folder / file.name).write_text(json.dumps(content), "utf-8")
            if schema == 2:
                Record.read(folder / file.name).write(folder)
    weights, mutations = zip(*MUTATIONS, strict=True)
    plots = itertools.cycle([[plot] for plot in pages.all_plots()] if one_plot else [pages.all_plots()])
    signal.signal(signal.SIGALRM, _raise_time_limit)
    with contextlib.chdir(workspace):
        for index in range(n_mutants):
            rng = random.Random(f"{seed} {index}")
            schema = rng.choice((1, 2))
            for name in ("new", "old"):
                remove(workspace / name)
                shutil.copytree(workspace / f"schema-{schema}", workspace / name)
            files = sorted((workspace / "new").glob("*.json"))
            rng.shuffle(files)
            mutant = Mutant(workspace / "new", files, rng)
            (mutate,) = rng.choices(mutations, weights)
            description = f"mutant {index} (schema {schema}, {mutate.__name__}): {mutate(mutant)}"
            with mock.patch.object(pages, "all_plots", mock.Mock(return_value=next(plots))):
                _run_commands(outcome, commands, description, workspace)
    return outcome


def _run_commands(outcome: Outcome, commands: list[str], description: str, workspace: Path) -> None:
    for command in commands:
        code, errors = run_command(COMMANDS[command])
        outcome.codes[command][code] += 1
        if INTERNAL_ERROR in errors or code not in (0, 1, 2, 3):
            outcome.tracebacks.append(f"{command}: {description}\n{errors}")
        if command == "check" and code == 0:
            new = None if (workspace / "new").is_symlink() else evidence(workspace / "new")
            if new is None or new != evidence(workspace / "old"):
                outcome.silent_passes.append(description)


def remove(path: Path) -> None:
    """Delete a folder, or a link to one."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _raise_time_limit(signal_number: int, frame: FrameType | None) -> None:
    raise TimeLimitError(f"the command took longer than {TIME_LIMIT_S} s")


def main() -> int:
    """Print the faults and the number of each exit code; return 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=2_000, help="number of mutants, default 2000")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations, default 0")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="commands, separated by commas")
    parser.add_argument("--all-plots", action="store_true", help="draw all plots in each report")
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        commands = options.commands.split(",")
        outcome = fuzz(options.mutants, options.seed, commands, Path(scratch), not options.all_plots)
    for title, faults in (("TRACEBACK", outcome.tracebacks), ("SILENT PASS", outcome.silent_passes)):
        for fault in faults:
            print(f"{title} {fault}", file=sys.stderr)
    for command, codes in outcome.codes.items():
        print(f"{command:8} " + ", ".join(f"exit code {code}: {count}" for code, count in sorted(codes.items())))
    print(
        f"{options.mutants} mutants in {time.perf_counter() - start:.0f} s: {len(outcome.tracebacks)} tracebacks, "
        f"{len(outcome.silent_passes)} silent passes"
    )
    return 1 if outcome.tracebacks or outcome.silent_passes else 0


if __name__ == "__main__":
    sys.exit(main())
