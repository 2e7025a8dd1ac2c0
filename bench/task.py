"""A task: what is asked, the examples, and how an answer is scored."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import UserError, did_you_mean
from bench.metrics import score as em_f1
from bench.task_card import TaskCard, read_card

SPLITS = ("train", "validation", "test")
LOOKED_AT = 20  # test rows on which a scorer is tried before anything runs
TINY = 1e-9  # by which a share may be rounded below 0 or above 1
Scorer = Callable[[str, Sequence[str]], dict[str, float]]


@dataclass(frozen=True)
class TaskRow:
    """One example. `target` is the first of the `references`: the one to learn from."""

    id: str
    input: str
    references: tuple[str, ...]
    rationale: str | None = None
    rejected: str | None = None

    @property
    def target(self) -> str:
        """The reference to learn from."""
        return self.references[0]


@dataclass(frozen=True)
class TaskTrainingData:
    """The task without its exam (see `bench.method.Lesson`)."""

    card: TaskCard
    train: tuple[TaskRow, ...]
    validation: tuple[TaskRow, ...]
    seed: int

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The closed set of answers, or None for open ones."""
        return self.card.labels

    @property
    def options(self) -> list[str]:
        """What follows a prompt, for each label in their order; none where answers are open."""
        return [self._lead() + label for label in self.labels or ()]

    def prompt(self, input: str, shots: Sequence[Any] = (), *, with_rationale: bool = False) -> str:
        """Instruction, solved shots, and the question up to where its answer begins."""
        shown = "".join(
            self.prompt_head(shot.input) + self.completion(shot, with_rationale=with_rationale) + self.card.end
            for shot in shots
        )
        return f"{self.card.instruction}\n\n{shown}{self.prompt_head(input)}"

    def prompt_head(self, input: str) -> str:
        """The template up to `{target}`; white space before it belongs to the completion, where tokenizers put it."""
        return self.card.template.partition("{target}")[0].rstrip().replace("{input}", input)

    def completion(self, example: Any, *, with_rationale: bool = False) -> str:
        """What follows the prompt when the answer is right, without the end-of-sequence token.

        A `worked` one holds the rationale before the answer. The line break between them must be its only one, so
        that an answer which breaks off among the steps is not taken for a whole one.
        """
        steps = " ".join(example.rationale.split()) + "\n" if with_rationale else ""
        return self._lead() + steps + str(example.target)

    def trim(self, text: str) -> str:
        """An answer up to where the template ends it, without surrounding white space."""
        return self.card.trim(text)

    def final_answer(self, solution: str) -> str:
        """The last line of a worked completion, up to where the template ends it; empty if it has no other line."""
        steps, _, answer = self.card.trim(solution).rpartition("\n")
        return answer.strip() if steps else ""

    def _lead(self) -> str:
        """White space before `{target}`, with which every completion begins."""
        head = self.card.template.partition("{target}")[0]
        return head[len(head.rstrip()) :]


@dataclass(frozen=True)
class Task:
    """A task, frozen once loaded; `sha256` is the digest of its card, data and scorer."""

    card: TaskCard
    folder: Path
    sha256: str
    splits: dict[str, tuple[TaskRow, ...]]
    scorer: Scorer | None = None
    metrics: tuple[str, ...] = ()
    """What the scorer gives each answer; none where there is no scorer."""

    def training_data(self, seed: int, examples: int | None = None) -> TaskTrainingData:
        """What a method may see: `examples` training rows drawn by `seed` (fewer are among more), and validation."""
        train = self.splits["train"]
        if examples is not None and examples < len(train):
            train = tuple(random.Random(seed).sample(train, len(train))[:examples])
        return TaskTrainingData(self.card, train, self.splits["validation"], seed)

    def trim(self, text: str) -> str:
        """An answer up to where the template ends it, without surrounding white space; the same for all methods."""
        return self.card.trim(text)

    def parse(self, text: str) -> str | None:
        """The part of a trimmed answer that `em` compares; None if there is none."""
        if self.card.answer is None:
            return text or None
        found = re.search(self.card.answer, text)
        return (found[1] or "").strip() or None if found else None

    def score(self, prediction: str, references: Sequence[str]) -> dict[str, float]:
        """Scores of one trimmed answer: em on the parsed part, f1 on the whole, parsed, and format where one is set.

        Raises `ValueError` where the task's own scorer gives anything but a share for each of its scores.
        """
        if self.scorer is not None:
            own = self.scorer(prediction, references)
            if not self.metrics:  # it is only being tried
                return own
            if not (_are_shares(own) and {*own} == {*self.metrics}):
                due = f"a number from 0 to 1 is due for each of {', '.join(self.metrics)}"
                raise ValueError(f"score in task.py gives {own!r} for {prediction!r}; {due}")
            return {name: min(max(value, 0.0), 1.0) for name, value in own.items()}
        answer = self.parse(prediction)
        wanted = [self.parse(reference) or reference for reference in references]
        scores = {
            "em": 0.0 if answer is None else em_f1(answer, wanted, self.card.normalize)["em"],
            "f1": em_f1(prediction, references, self.card.normalize)["f1"],
            "parsed": float(answer is not None),
        }
        if self.card.format is not None:
            scores["format"] = float(re.fullmatch(self.card.format, prediction) is not None)
        return scores


def load_task(folder: Path, rows: Path | None = None) -> Task:
    """The task in `folder`, its examples in `rows` where they lie elsewhere.

    Raises `UserError` with file, line and mend at the first thing that is wrong.
    """
    card = read_card(folder / "task.yaml")
    ids: dict[str, str] = {}
    data = [(rows or folder) / f"{split}.jsonl" for split in SPLITS]
    splits = {file.stem: _read_split(file, card, ids) for file in data}
    _check_labels(splits, data[0], card)
    files = [folder / "task.yaml", *data]
    code = folder / "task.py"
    scorer = _read_scorer(code) if code.exists() else None
    digest = hashlib.sha256()
    for file in [*files, code] if scorer else files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    made = Task(card, folder, digest.hexdigest(), splits, scorer)
    scores = _check_scores(made, code)
    return replace(made, metrics=scores) if scorer else made


def _read_split(file: Path, card: TaskCard, ids: dict[str, str]) -> tuple[TaskRow, ...]:
    if not file.is_file():
        raise UserError(
            f"the split '{file.stem}' is missing", location=str(file), hint="add it, one JSON object per line"
        )
    rows = []
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8: {error}", location=str(file), hint="save the file as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{file}:{number}"
            row = _read_row(line, where, card)
            if row.id in ids:
                raise UserError(
                    f"the id '{row.id}' is given twice", location=where, hint=f"it stands at {ids[row.id]} too"
                )
            ids[row.id] = where
            rows.append(row)
    if not rows:
        raise UserError(f"the split '{file.stem}' is empty", location=str(file), hint="give it at least one example")
    return tuple(rows)


def _check_labels(splits: dict[str, tuple[TaskRow, ...]], train: Path, card: TaskCard) -> None:
    """Refuse an exam that asks for a label of which there is no example to learn from."""
    learnt = {text for row in splits["train"] for text in row.references}
    if card.labels is None or not (strange := {row.target for row in splits["test"]} - learnt):
        return
    raise UserError(
        f"the test asks for {', '.join(map(repr, sorted(strange)))}, of which train has no example",
        location=str(train),
        hint="add examples of it, or drop the label and its test rows",
    )


def _check_scores(task: Task, code: Path) -> tuple[str, ...]:
    """Names of the scores; refuses a scorer that cannot score rows' own targets, and a main metric that is none of
    them.
    """
    mend = "score(prediction, references) returns a dict of the same names for all, and numbers from 0 to 1"
    found: dict[str, float] = {}
    for row in task.splits["test"][:LOOKED_AT]:
        try:
            scores = task.score(row.target, row.references)
        except Exception as error:
            at = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(code)]
            problem = f"score fails on {row.target!r}: {type(error).__name__}: {error}"
            raise UserError(problem, location=f"{code}:{at[-1]}" if at else str(code), hint=mend) from error
        if not _are_shares(scores) or {*scores} != {*(found or scores)}:
            raise UserError(f"score gives {scores!r} for {row.target!r} and itself", location=str(code), hint=mend)
        found = scores
    if task.card.metric not in found:
        mend = f"{did_you_mean(task.card.metric, found)}; or have score in task.py return it"
        problem = f"key 'metric': no score is called '{task.card.metric}'"
        raise UserError(problem, location=str(task.folder / "task.yaml"), hint=mend)
    return tuple(found)


def _are_shares(scores: object) -> bool:
    """Whether scores are numbers from 0 to 1, but for rounding, by their names."""
    numbers = scores.values() if isinstance(scores, dict) else ()
    return bool(numbers) and all(isinstance(value, int | float) and -TINY <= value <= 1 + TINY for value in numbers)


def _read_row(line: str, where: str, card: TaskCard) -> TaskRow:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"not valid JSON: {error}", location=where, hint="one JSON object per line") from None
    if not isinstance(content, dict):
        raise UserError("a line must hold one JSON object", location=where, hint='{"id": …, "input": …, "target": …}')
    valid = ("id", "input", "target", "rationale", "rejected")
    for key in content:
        if key not in valid:
            raise UserError(f"unknown key '{key}'", location=where, hint=did_you_mean(key, valid))
    for key in ("id", "input"):
        if not isinstance(content.get(key), str) or not content[key].strip():
            raise UserError(
                f"'{key}' must be a text that is not empty", location=where, hint="fill it in, or drop the line"
            )
    target = content.get("target")
    references: list[Any] = target if isinstance(target, list) else [target]
    if not references or not all(isinstance(text, str) and text.strip() for text in references):
        problem = "'target' must be a text that is not empty, or a list of such"
        raise UserError(problem, location=where, hint="fill it in, or drop the line")
    for key in ("rationale", "rejected"):
        if not isinstance(content.get(key), str | None):
            raise UserError(f"'{key}' must be a text", location=where, hint="write it as a text, or leave it out")
    for text in references:
        if card.end and card.end in text:
            raise UserError(f"the target contains {card.end!r}, which ends an answer in the template", location=where)
        if card.labels is not None and text not in card.labels:
            raise UserError(f"the target '{text}' is none of the labels", location=where, hint=", ".join(card.labels))
    return TaskRow(
        content["id"], content["input"], tuple(references), content.get("rationale"), content.get("rejected")
    )


def _read_scorer(file: Path) -> Scorer:
    spec = importlib.util.spec_from_file_location(f"bench_task_{file.parent.name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        scorer: Scorer = module.score
    except Exception as error:
        raise UserError(
            f"task.py does not load: {type(error).__name__}: {error}",
            location=str(file),
            hint="it must define score(prediction: str, references: Sequence[str]) -> dict[str, float]",
        ) from error
    return scorer
