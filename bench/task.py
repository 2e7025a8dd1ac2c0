"""A task: its examples, its prompts, and the scoring of answers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.metrics import (
    ANSWER_TEXT_METRICS,
    CORPUS_METRICS,
    CORPUS_TEXT_METRICS,
    EVALUATE_PREFIX,
    is_emptied,
    label_key,
    metric_of_single_answers,
)
from bench.metrics import score as score_em_f1
from bench.metrics.evaluate_module import LoadedMetric, local_scripts
from bench.metrics.structured import Tolerance
from bench.metrics.text import TextAnswer, score_text_metrics
from bench.task_card import TaskCard, parse_answer, read_card, trim_answer
from bench.task_metrics import check_metric_names, check_text_references, load_evaluate_metrics
from bench.user_code import report_user_code

SPLITS = ("train", "validation", "test")
SCHEMA_FILE = "schema.json"
"""JSON schema of the answers beside the card, for constrained answers only; no part of the task's digest."""
SHIFTED = "shifted"
"""Optional split with questions of another time or source; methods never learn from it, as from the test."""
ROW_KEYS = ("id", "input", "target", "rationale", "rejected", "group")
SCORER_CHECK_ROWS = 20  # test rows on which a scorer is tried before anything runs
SCORE_TOLERANCE = 1e-9  # rounding error by which a score may be below 0 or above 1
Scorer = Callable[[str, Sequence[str]], dict[str, float]]
"""Function `score` of a `task.py`: scores by name, each from 0 to 1, of an answer and its references."""
CorpusScorer = Callable[[Sequence[str], Sequence[Sequence[str]]], dict[str, float]]
"""Function `corpus_score` of a `task.py`: scores by name, from 0 to 1, of all answers and the references of each."""


@dataclass(frozen=True)
class TaskRow:
    """One row of a task (see `bench.method.Example`)."""

    id: str
    input: str
    references: tuple[str, ...]
    """All accepted answers."""
    rationale: str | None = None
    rejected: str | None = None
    group: str | None = None
    """Group of questions that belong together, such as those on one passage; None if the task has no groups."""

    @property
    def target(self) -> str:
        """The accepted answer to learn: the first of `references`."""
        return self.references[0]


class ChatFormat(Protocol):
    """Writes prompts as turns of a chat."""

    @property
    def answer_start(self) -> str:
        """Text between a prompt and its answer."""

    def prompt(self, instruction: str, shots: Sequence[tuple[str, str]], question: str) -> str:
        """Return the text up to where the answer begins; shots are pairs of question and answer."""


@dataclass(frozen=True)
class TaskTrainingData:
    """The part of a task that a method may learn from (see `bench.method.TrainingData`)."""

    card: TaskCard
    train: tuple[TaskRow, ...]
    validation: tuple[TaskRow, ...]
    seed: int
    chat: ChatFormat | None = None
    """Writes prompts as turns of a chat; None for the task's own template."""
    scorer: Scorer | None = None
    """Function `score` of the task's own `task.py`, if there is one."""
    metrics: tuple[str, ...] = ()
    """Names of the scores that `scorer` returns; empty if there is no scorer."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """All possible answers; None for open answers."""
        return self.card.labels

    @property
    def options(self) -> list[str]:
        """The completion of each label, in the order of `labels`; empty for open answers."""
        # In turns, answers have no white space around them.
        labels = [label.strip() for label in self.labels or ()] if self.chat is not None else self.labels or ()
        return [self.answer_start + label for label in labels]

    def prompt(self, input: str, shots: Sequence[Any] = (), *, with_rationale: bool = False) -> str:
        """Return instruction, solved shots, and the question up to where its answer begins."""
        if self.chat is not None:
            turns = [(self.user_turn(shot.input), self.answer_text(shot, with_rationale)) for shot in shots]
            return self.chat.prompt(self.card.instruction, turns, self.user_turn(input))
        solved = "".join(self.solved(shot, with_rationale) for shot in shots)
        return self.head + solved + self.question(input)

    @property
    def head(self) -> str:
        """Text before the first shot of a plain prompt: the instruction."""
        return f"{self.card.instruction}\n\n"

    def solved(self, shot: Any, with_rationale: bool) -> str:
        """Return a shot of a plain prompt."""
        return self.question(shot.input) + self.completion(shot, with_rationale=with_rationale) + self.card.end

    def question(self, input: str) -> str:
        """Return the template filled in up to `{target}`, without the white space before it.

        Tokenizers join a space to the word that follows, so this white space belongs to the completion.
        """
        return self.card.template.partition("{target}")[0].rstrip().replace("{input}", input)

    def completion(self, example: Any, *, with_rationale: bool = False) -> str:
        """Return the text after the prompt for a correct answer, without end-of-sequence token.

        The line break between rationale and answer is the only one, so that generated text which was cut off within
        the rationale is not mistaken for an answer.
        """
        return self.answer_start + self.answer_text(example, with_rationale)

    def trim(self, text: str) -> str:
        """Return generated text up to the end of the answer, stripped."""
        return trim_answer(text, self.card.stop_texts(chat=self.chat is not None))

    def score(self, answer: str, example: Any) -> float:
        """Return the main metric of a raw answer to the question of an example.

        A metric of all answers together, such as macro-F1, has no value for one answer: `em` takes its place, or `f1`
        that of a metric of texts, such as BLEU.
        """
        scores = _score(self.card, self.scorer, self.metrics, self.trim(answer), example.references)
        return scores[metric_of_single_answers(self.card.metric, scores)]

    def final_answer(self, solution: str) -> str:
        """Return the last line of a completion with rationale; empty if it has only one line."""
        steps, _, answer = self.trim(solution.removeprefix(self.answer_start)).rpartition("\n")
        return answer.strip() if steps else ""

    def user_turn(self, input: str) -> str:
        """Return the question as a turn of a chat; templates differ in what white space they keep."""
        return self.question(input.strip()).strip()

    def answer_text(self, example: Any, with_rationale: bool) -> str:
        """Return the text of a correct answer."""
        steps = " ".join(example.rationale.split()) + "\n" if with_rationale else ""
        return steps + (str(example.target) if self.chat is None else str(example.target).strip())

    @property
    def answer_start(self) -> str:
        """The text before an answer, with which every completion begins.

        It is the white space before `{target}`, or what the chat template writes there.
        """
        if self.chat is not None:
            return self.chat.answer_start
        before_target = self.card.template.partition("{target}")[0]
        return before_target[len(before_target.rstrip()) :]


@dataclass(frozen=True)
class Task:
    """A loaded task."""

    card: TaskCard
    folder: Path
    sha256: str
    """Digest of card, data and scorer."""
    splits: dict[str, tuple[TaskRow, ...]]
    """Rows by split: those of `SPLITS`, and `SHIFTED` if the task has that file."""
    scorer: Scorer | None = None
    """Function `score` of the task's own `task.py`, if there is one."""
    metrics: tuple[str, ...] = ()
    """Names of the scores that `scorer` returns; empty if there is no scorer."""
    corpus_scorer: CorpusScorer | None = None
    """Function `corpus_score` of the task's own `task.py`, if there is one."""
    evaluate_metrics: tuple[LoadedMetric, ...] = ()
    """Metrics of `evaluate` that the card names."""
    corpus_text_metrics: tuple[str, ...] = ()
    """Metrics of `bench.metrics.CORPUS_TEXT_METRICS` that the card names and `corpus_scorer` does not return."""

    @property
    def has_corpus_values(self) -> bool:
        """True if there are metrics of all answers for which only a function is known."""
        return self.corpus_scorer is not None or bool(self.evaluate_metrics)

    def training_data(self, seed: int, examples: int | None = None, chat: ChatFormat | None = None) -> TaskTrainingData:
        """Return the part of the task that a method may learn from.

        Args:
            seed: Seed of the run, which also chooses the training rows.
            examples: Maximum number of training rows; None for all. With the same seed a smaller set is contained
                in a larger one.
            chat: Writes prompts as turns of a chat; None for the task's own template.
        """
        train = self.splits["train"]
        if examples is not None and examples < len(train):
            train = tuple(random.Random(seed).sample(train, len(train))[:examples])
        validation = self.splits["validation"]
        return TaskTrainingData(self.card, train, validation, seed, chat, self.scorer, self.metrics)

    def trim(self, text: str, stop_texts: Sequence[str] | None = None) -> str:
        """Return generated text up to the end of the answer, stripped; the same for all methods.

        Args:
            text: The generated text.
            stop_texts: Texts that end an answer, as in `Decoding.stop`; None for those of plain prompts.
        """
        return trim_answer(text, self.card.stop_texts() if stop_texts is None else stop_texts)

    def parse(self, text: str) -> str | None:
        """Return the part of a trimmed answer that `em` compares; None if there is none."""
        return parse_answer(self.card, text)

    def score(self, prediction: str, references: Sequence[str]) -> dict[str, float]:
        """Score one trimmed answer.

        Args:
            prediction: The answer.
            references: All accepted answers.

        Returns:
            Scores from 0 to 1: those of the task's own scorer if it has one. Otherwise `em` of the parsed part,
            `f1` of the whole answer, `parsed` (1 if there is a parsed part), and `format` if the card defines one.
            Then the metrics of single answers that the card names.

        Raises:
            ValueError: The task's own scorer returned something else than a number from 0 to 1 for each score.
        """
        return _score(self.card, self.scorer, self.metrics, prediction, references)

    def corpus_scores(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return what `corpus_score` of `task.py` and `evaluate` give all trimmed answers.

        Raises:
            ValueError: One of them returned something else than a number from 0 to 1.
        """
        scores = {} if self.corpus_scorer is None else self.corpus_scorer(predictions, references)
        if self.corpus_scorer is not None and not are_valid_scores(scores):
            raise ValueError(f"corpus_score in task.py returned {scores!r}; it must return numbers from 0 to 1 by name")
        for loaded in self.evaluate_metrics:
            value = loaded.compute(predictions, references)
            if not are_valid_scores({loaded.metric.name: value}):
                raise ValueError(f"{loaded.metric.name} returned {value!r}, which is no number from 0 to 1")
            scores = scores | {loaded.metric.name: value}
        return {name: min(max(float(value), 0.0), 1.0) for name, value in scores.items()}


def _score(
    card: TaskCard, scorer: Scorer | None, metrics: Sequence[str], prediction: str, references: Sequence[str]
) -> dict[str, float]:
    """Score one trimmed answer (see `Task.score`)."""
    if scorer is None:
        scores = _default_scores(card, prediction, references)
    else:
        scores = _own_scores(scorer, metrics, prediction, references)
    names = [name for name in card.named_metrics if name in ANSWER_TEXT_METRICS and name not in scores]
    return scores | score_text_metrics(names, _text_answer(card, prediction, references)) if names else scores


def _own_scores(scorer: Scorer, metrics: Sequence[str], prediction: str, references: Sequence[str]) -> dict[str, float]:
    scores = scorer(prediction, references)
    if not (are_valid_scores(scores) and {*scores} == {*metrics}):
        raise ValueError(
            f"score in task.py returned {scores!r} for {prediction!r}; "
            f"it must return a number from 0 to 1 for each of {', '.join(metrics)}"
        )
    return {name: min(max(value, 0.0), 1.0) for name, value in scores.items()}


def _default_scores(card: TaskCard, prediction: str, references: Sequence[str]) -> dict[str, float]:
    answer, labels, rule = parse_answer(card, prediction), card.labels, card.normalize
    parsed_labels = None if labels is None else [parse_answer(card, label) or label for label in labels]
    parsed_references = _parse_references(card, references)
    scores = {
        "em": 0.0 if answer is None else score_em_f1(answer, parsed_references, rule, parsed_labels)["em"],
        "f1": score_em_f1(prediction, references, rule, labels)["f1"],
        "parsed": float(answer is not None),
    }
    if card.format is not None:
        scores["format"] = float(re.fullmatch(card.format, prediction) is not None)
    return scores


def _text_answer(card: TaskCard, prediction: str, references: Sequence[str]) -> TextAnswer:
    return TextAnswer(
        text=prediction,
        references=references,
        parsed=parse_answer(card, prediction),
        parsed_references=_parse_references(card, references),
        normalize=card.normalize,
        tolerance=None if card.tolerance is None else Tolerance.parse(card.tolerance),
    )


def _parse_references(card: TaskCard, references: Sequence[str]) -> list[str]:
    """Return the part of each reference that is compared with that of an answer."""
    return [parse_answer(card, reference) or reference for reference in references]


def load_task(folder: Path, rows_folder: Path | None = None) -> Task:
    """Load and check a task.

    Args:
        folder: Folder with `task.yaml` and, optionally, `task.py` and `shifted.jsonl`.
        rows_folder: Folder with the files of the splits; None if they are in `folder`.

    Raises:
        UserError: Something in the task is invalid; reports the first problem with file, line and hint.
    """
    card = read_card(folder / "task.yaml")
    row_locations: dict[str, str] = {}
    data_files = [(rows_folder or folder) / f"{split}.jsonl" for split in SPLITS]
    shifted_file = folder / f"{SHIFTED}.jsonl"
    existing_files = [*data_files, shifted_file] if os.path.lexists(shifted_file) else data_files
    splits = {file.stem: _read_split(file, card, row_locations) for file in existing_files}
    _check_labels(splits, data_files[0], card)
    for file in existing_files[2:]:
        _check_test_groups(splits[file.stem], file)
    scorer_file = folder / "task.py"
    if scorer_file.exists() and not scorer_file.is_file():
        raise UserError(
            Message("task.py is not a regular file"), location=str(scorer_file), hint=Message("replace it by a file")
        )
    scorer, corpus_scorer = _read_scorers(scorer_file) if scorer_file.exists() else (None, None)
    task = Task(card, folder, digest_task(folder, rows_folder), splits, scorer, corpus_scorer=corpus_scorer)
    if scorer is None:
        _check_normalized_labels(card, str(folder / "task.yaml"))
        _check_normalized_references(task, row_locations, is_hub_data=rows_folder is not None)
    scores, corpus_scores = _check_scores(task, scorer_file)
    task = replace(task, metrics=scores if scorer else ())
    check_metric_names(card, str(folder / "task.yaml"), [*scores, *corpus_scores])
    return _with_text_metrics(task, [*scores, *corpus_scores], row_locations)


def _with_text_metrics(task: Task, own_metrics: Sequence[str], row_locations: dict[str, str]) -> Task:
    """Return a task with the metrics of texts that its card names, after trying them.

    Raises:
        UserError: A metric of `evaluate` cannot be used, or a target is none that a metric can compare.
    """
    names = [name for name in task.card.named_metrics if name not in own_metrics]
    scored_rows = [*task.splits["validation"], *task.splits["test"]]
    check_text_references(task.card, names, [(row.references, row_locations[row.id]) for row in scored_rows])
    references = [row.references for row in scored_rows]
    tried = [row.references for row in task.splits["test"][:SCORER_CHECK_ROWS]]
    return replace(
        task,
        evaluate_metrics=load_evaluate_metrics(names, task.folder, references, tried),
        corpus_text_metrics=tuple(name for name in names if name in CORPUS_TEXT_METRICS),
    )


def digest_task(folder: Path, rows_folder: Path | None = None) -> str:
    """Return the digest of card, data, scorer and named scripts; no code is run.

    Args:
        folder: Folder with `task.yaml` and, optionally, `task.py`.
        rows_folder: Folder with the files of the splits; None if they are in `folder`.

    Raises:
        UserError: A file is missing or cannot be read.
    """
    files = [folder / "task.yaml", *((rows_folder or folder) / f"{split}.jsonl" for split in SPLITS)]
    optional_files = [file for file in (folder / "task.py", folder / f"{SHIFTED}.jsonl") if file.exists()]
    digest = hashlib.sha256()
    for file in [*files, *optional_files, *_named_scripts(folder)]:
        if file.exists() and not file.is_file():  # Reading a named pipe would wait for ever.
            raise UserError(
                Message("{name} is not a file", name=file.name), location=str(file), hint=Message("restore the file")
            )
        try:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise UserError(
                Message("{name} cannot be read: {reason}", name=file.name, reason=error.strerror),
                location=str(file),
                hint=Message("restore the file"),
            ) from None
    return digest.hexdigest()


def _named_scripts(folder: Path) -> list[Path]:
    """Return the scripts of `evaluate` that the card of a task names."""
    file = folder / "task.yaml"
    if not file.is_file() or EVALUATE_PREFIX.encode() not in file.read_bytes():
        return []
    return local_scripts(read_card(file).named_metrics, folder)


def _read_split(file: Path, card: TaskCard, row_locations: dict[str, str]) -> tuple[TaskRow, ...]:
    """Read the rows of a split, and add the location of each to `row_locations` by id."""
    if not file.is_file():
        hint = Message("add the file, with one JSON object per line")
        raise UserError(Message("the split '{split}' is missing", split=file.stem), location=str(file), hint=hint)
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(
            Message("not UTF-8: {problem}", problem=error), location=str(file), hint=Message("save the file as UTF-8")
        ) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            location = f"{file}:{number}"
            row = _read_row(line, location, card)
            if row.id in row_locations:
                hint = Message("change it; the other row is at {location}", location=row_locations[row.id])
                raise UserError(Message("the id '{id}' is used twice", id=row.id), location=location, hint=hint)
            row_locations[row.id] = location
            rows.append(row)
    if not rows:
        raise UserError(
            Message("the split '{split}' is empty", split=file.stem),
            location=str(file),
            hint=Message("add at least one example"),
        )
    _check_groups(rows, row_locations)
    return tuple(rows)


def _check_groups(rows: Sequence[TaskRow], row_locations: dict[str, str]) -> None:
    """Raise `UserError` if only some rows of a split have a group."""
    without = next((row for row in rows if row.group is None), None)
    if without is not None and any(row.group is not None for row in rows):
        raise UserError(
            Message("the row has no 'group', but others of its split have one"),
            location=row_locations[without.id],
            hint=Message("add a group to every row of the split, one of its own where the question stands alone"),
        )


def _check_test_groups(rows: Sequence[TaskRow], file: Path) -> None:
    """Raise `UserError` if all questions of a split for testing belong to one group."""
    groups = {row.group for row in rows}
    if len(groups) == 1 and None not in groups:
        raise UserError(
            Message("all test questions are of the group '{group}'", group=rows[0].group),
            location=str(file),
            hint=Message("add questions of other groups, at least 10 in all, or remove the key 'group'"),
        )


def _check_labels(splits: dict[str, tuple[TaskRow, ...]], train_file: Path, card: TaskCard) -> None:
    """Raise `UserError` if a label of the test split has no training example."""
    if card.labels is None:
        return
    train_labels = {text for row in splits["train"] for text in row.references}
    unseen = {row.target for row in splits["test"]} - train_labels
    if unseen:
        raise UserError(
            Message(
                "the test split asks for {names}, which has no training example",
                names=", ".join(map(repr, sorted(unseen))),
            ),
            location=str(train_file),
            hint=Message("add examples of it, or remove the label and its test rows"),
        )


def _check_normalized_labels(card: TaskCard, location: str) -> None:
    """Raise `UserError` if the normalizer makes labels equal; case and spaces do not count."""
    labels_by_key: dict[str, str] = {}
    for label in card.labels or ():
        other = labels_by_key.setdefault(label_key(label, card.normalize), label)
        if "".join(other.casefold().split()) != "".join(label.casefold().split()):
            problem = Message(
                "with 'normalize: {normalize}' the labels '{other}' and '{label}' are the same answer",
                normalize=card.normalize,
                other=other,
                label=label,
            )
            raise UserError(problem, location=location, hint=Message("write normalize: text, which keeps them apart"))


def _check_normalized_references(task: Task, row_locations: dict[str, str], *, is_hub_data: bool) -> None:
    """Raise `UserError` if nothing of an accepted answer is left to compare.

    The official rules accept such references, and a large data set of the hub contains a few by mistake. Of hub data,
    therefore, only a question without any other reference is refused, and only where it is scored.
    """
    rule = task.card.normalize
    for split, rows in task.splits.items():
        for row in rows:
            emptied = [text for text in row.references if is_emptied(task.parse(text) or text, rule)]
            is_accepted = is_hub_data and (split == "train" or len(emptied) < len(row.references))
            if emptied and not is_accepted:
                raise UserError(
                    Message(
                        "'normalize: {rule}' leaves nothing of the target {target!r}, so an empty answer would "
                        "be correct",
                        rule=rule,
                        target=emptied[0],
                    ),
                    location=row_locations[row.id],
                    hint=Message("write normalize: text in task.yaml, which keeps articles and punctuation"),
                )


def _check_scores(task: Task, scorer_file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the scores of single answers, and of those of all answers.

    Some targets are scored against themselves. Metrics of texts that the card names are not among them.

    Raises:
        UserError: The scorer fails, or its scores are invalid.
    """
    hint = Message(
        "score(prediction, references) must return a dict with the same names for all rows and numbers from 0 to 1"
    )
    first_scores: dict[str, float] = {}
    for row in task.splits["test"][:SCORER_CHECK_ROWS]:
        with report_user_code(scorer_file, Message("score fails on {target!r}", target=row.target), hint=hint):
            if task.scorer is None:
                scores = _default_scores(task.card, row.target, row.references)
            else:
                scores = task.scorer(row.target, row.references)
            first_scores = first_scores or scores
            are_valid = are_valid_scores(scores) and {*scores} == {*first_scores}
        if not are_valid:
            problem = Message("score returned {scores!r} for the target {target!r}", scores=scores, target=row.target)
            raise UserError(problem, location=str(scorer_file), hint=hint)
    corpus_scores = _try_corpus_scorer(task, scorer_file)
    reserved = next((name for name in (*first_scores, *corpus_scores) if name in CORPUS_METRICS), None)
    name_problem: Message | None = None
    if reserved:
        name_problem = Message(
            "task.py returned '{name}', the name of a metric that all answers are needed for", name=reserved
        )
    elif shared := first_scores.keys() & corpus_scores.keys():
        name_problem = Message("corpus_score returned '{name}', which single answers have too", name=min(shared))
    if name_problem is not None:
        raise UserError(name_problem, location=str(scorer_file), hint=Message("give the score another name"))
    return tuple(first_scores), tuple(corpus_scores)


def _try_corpus_scorer(task: Task, scorer_file: Path) -> dict[str, float]:
    """Return the scores that the task's own `corpus_score` gives some targets.

    Raises:
        UserError: It fails, or its scores are invalid.
    """
    if task.corpus_scorer is None:
        return {}
    rows = task.splits["test"][:SCORER_CHECK_ROWS]
    hint = Message("corpus_score(predictions, references) must return a dict of names and numbers from 0 to 1")
    with report_user_code(scorer_file, Message("corpus_score fails"), hint=hint):
        scores = task.corpus_scorer([row.target for row in rows], [row.references for row in rows])
    if not are_valid_scores(scores):
        problem = Message("corpus_score returned {scores} for right answers", scores=repr(scores))
        raise UserError(problem, location=str(scorer_file), hint=hint)
    return scores


def are_valid_scores(scores: object) -> bool:
    """Return True for a non-empty dict of numbers from 0 to 1, apart from rounding errors."""
    values = scores.values() if isinstance(scores, dict) else ()
    return bool(values) and all(
        isinstance(value, int | float) and -SCORE_TOLERANCE <= value <= 1 + SCORE_TOLERANCE for value in values
    )


def _read_row(line: str, location: str, card: TaskCard) -> TaskRow:
    """Parse and check one line of a split."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            Message("not valid JSON: {problem}", problem=error),
            location=location,
            hint=Message("write one JSON object per line"),
        ) from None
    if not isinstance(content, dict):
        hint = Message('{{"id": …, "input": …, "target": …}}')
        raise UserError(Message("a line must hold one JSON object"), location=location, hint=hint)
    for key in content:
        if key not in ROW_KEYS:
            raise UserError(
                Message("unknown key '{key}'", key=key), location=location, hint=did_you_mean(key, ROW_KEYS)
            )
    for key in ("id", "input"):
        if not isinstance(content.get(key), str) or not content[key].strip():
            problem = Message("'{key}' must be a non-empty string", key=key)
            raise UserError(problem, location=location, hint=Message("add the text, or remove the line"))
    references = _read_references(content.get("target"), location)
    for key in ("rationale", "rejected"):
        if not isinstance(content.get(key), str | None):
            raise UserError(
                Message("'{key}' must be a string", key=key),
                location=location,
                hint=Message("write a string, or remove the key"),
            )
    _check_references(references, location, card)
    group = content.get("group")
    if "group" in content and not (isinstance(group, str) and group.strip()):
        raise UserError(
            Message("'{key}' must be a non-empty string", key="group"),
            location=location,
            hint=Message("write the name of the group, e.g. the passage or the customer of the question"),
        )
    return TaskRow(
        content["id"], content["input"], references, content.get("rationale"), content.get("rejected"), group
    )


def _read_references(target: Any, location: str) -> tuple[str, ...]:
    references = target if isinstance(target, list) else [target]
    if not references or not all(isinstance(text, str) and text.strip() for text in references):
        problem = Message("'target' must be a non-empty string or a list of them")
        raise UserError(problem, location=location, hint=Message("add the text, or remove the line"))
    return tuple(references)


def _check_references(references: tuple[str, ...], location: str, card: TaskCard) -> None:
    for text in references:
        for end in card.stop_texts():
            if end in text:
                source = Message("template") if end == card.end else Message("key 'stop'")
                raise UserError(
                    Message(
                        "the target contains {end!r}, which ends an answer in the {source}", end=end, source=source
                    ),
                    location=location,
                    hint=Message("change the {source} in task.yaml, or the target", source=source),
                )
        if card.labels is not None and text not in card.labels:
            hint = Message("use one of: {names}", names=", ".join(card.labels))
            raise UserError(Message("the target '{text}' is not in 'labels'", text=text), location=location, hint=hint)


def _read_scorers(file: Path) -> tuple[Scorer | None, CorpusScorer | None]:
    """Import `score` and `corpus_score` from a `task.py`; it has at least one of them."""
    spec = importlib.util.spec_from_file_location(f"bench_task_{file.parent.name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    hint = Message("define score(prediction: str, references: Sequence[str]) -> dict[str, float]")
    with report_user_code(file, Message("task.py cannot be imported"), hint=hint):
        spec.loader.exec_module(module)
        corpus_scorer: CorpusScorer | None = getattr(module, "corpus_score", None)
        scorer: Scorer | None = getattr(module, "score", None) if corpus_scorer else module.score
    return scorer, corpus_scorer
