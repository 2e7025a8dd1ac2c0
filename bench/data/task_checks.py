"""Errors and warnings about a task's data: leaks, duplicates, format, lengths, balance."""

from __future__ import annotations

import math
import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from bench import units
from bench.data.text import (
    NEAR_DUPLICATE_COSINE,
    excerpt,
    find_answer,
    find_white_space_fault,
    match_key,
    near_duplicates,
    spelling_key,
)
from bench.i18n import Message, join_messages
from bench.metrics import canonical_number, normalize_text
from bench.task import SHIFTED, SPLITS, Task, TaskRow

MAX_EXAMPLES = 3
MAX_LABELS_SHOWN = 20
ANSWER_COLUMNS = 22  # width of answers and labels in messages
MIN_CLOSED_SHARE = 0.9
"""Share of targets that must end in a closing mark before the others count as truncated."""
RECOMMENDED_TEST_ROWS = 500
_OPEN_ENDS = frozenset(",;:、·/&+=<([{«“‘-–—")

Tokenize = Callable[[str, bool], list[int]]
"""Returns the token ids of a text; with True, including the special tokens that the tokenizer adds."""


@dataclass(frozen=True)
class TaskFinding:
    """The result of one check: an error makes a task invalid, a warning does not."""

    check: str
    is_error: bool
    count: int
    message: str
    examples: tuple[str, ...] = ()
    """The first cases."""
    cases: tuple[str, ...] = ()
    """All cases."""
    splits: tuple[str, ...] = ()
    """Of a leak: the split that contains the input, and the later one that repeats it."""


@dataclass(frozen=True)
class CheckedRow:
    """A row of the task and the values that the checks compare."""

    split: str
    row: TaskRow
    key: str
    """The input by `match_key`."""
    answers: tuple[str, ...]
    """Of each accepted target the part that `em` compares."""
    prompt_tokens: int
    target_tokens: int

    def __str__(self) -> str:
        return f"{self.row.id} ({self.split})"


@dataclass(frozen=True)
class CheckedTask:
    """The data that a check may use."""

    task: Task
    rows: tuple[CheckedRow, ...]
    """All rows, in the order train, validation, test, shifted."""
    context: int
    """Context length of the model, in tokens."""


class CheckResult(NamedTuple):
    """The result of a check before it is named."""

    num_cases: int
    """0: no finding."""
    message: str
    """The meaning, with a hint."""
    cases: Sequence[str] = ()
    num_examples: int = MAX_EXAMPLES
    """Number of cases to show in a table."""
    splits: tuple[str, ...] = ()


Check = Callable[[CheckedTask], CheckResult]


def check_task(task: Task, tokenize: Tokenize, context: int) -> list[TaskFinding]:
    """Check the data of a loaded task.

    Args:
        task: The task.
        tokenize: The tokenizer of the model that measures prompts and targets.
        context: The context length of that model, in tokens.

    Returns:
        Errors, then warnings.
    """
    checked = CheckedTask(task, tuple(_measure_rows(task, tokenize)), context)
    findings = []
    for is_error, checks in ((True, ERROR_CHECKS), (False, WARNING_CHECKS)):
        for name, check in checks:
            result = check(checked)
            if result.num_cases:
                cases = tuple(result.cases)
                examples = cases[: result.num_examples]
                findings.append(
                    TaskFinding(name, is_error, result.num_cases, result.message, examples, cases, result.splits)
                )
    return findings


def _measure_rows(task: Task, tokenize: Tokenize) -> Iterable[CheckedRow]:
    data = task.training_data(seed=0)
    # The number of tokens before a text: a beginning-of-sequence token, if the model has one.
    num_leading = tokenize("a", True).index(tokenize("a", False)[0])
    for split, rows in task.splits.items():
        for row in rows:
            texts = (data.prompt(row.input), data.completion(row))
            prompt, completion = (text.encode("utf-8", "replace").decode() for text in texts)
            prompt_ids, all_ids = tokenize(prompt, False), tokenize(prompt + completion, False)
            # No token spans prompt and completion (see `CausalLM.encode`), even if the tokenizer would merge them.
            is_prefix = all_ids[: len(prompt_ids)] == prompt_ids
            completion_ids = all_ids[len(prompt_ids) :] if is_prefix else tokenize(completion, False)
            answers = tuple(task.parse(text) or text for text in row.references)
            prompt_tokens = num_leading + len(prompt_ids)
            yield CheckedRow(split, row, match_key(row.input), answers, prompt_tokens, len(completion_ids))


def _result(cases: Sequence[str], message: str) -> CheckResult:
    return CheckResult(len(cases), message, cases)


def _check_leaks(earlier: str, later: str, checked: CheckedTask) -> CheckResult:
    first_rows: dict[str, CheckedRow] = {}
    for row in checked.rows:
        if row.split == earlier:
            first_rows.setdefault(row.key, row)
    repeated = [row for row in checked.rows if row.split == later and row.key in first_rows]
    cases = [f"{row} = {first_rows[row.key]}: {excerpt(row.row.input)}" for row in repeated]
    message = Message(
        "From {earlier} to {later}: inputs that both contain, so the answer may be memorized. Remove one of them, or: "
        "bench new task NAME --from {folder} --drop-leaks",
        earlier=earlier,
        later=later,
        folder=shlex.quote(str(checked.task.folder)),
    )
    return CheckResult(len(cases), message, cases, splits=(earlier, later))


def _check_group_leaks(checked: CheckedTask) -> CheckResult:
    groups = {split: {row.group for row in rows} - {None} for split, rows in checked.task.splits.items()}
    test_groups = sorted(group for group in groups["test"] if group)
    cases = [
        f"{excerpt(group)}: {', '.join(split for split in SPLITS if group in groups[split])}"
        for group in test_groups
        if group in groups["train"] or group in groups["validation"]
    ]
    message = Message(
        "Groups of test questions that train or validation contain too, so the scores are those of known groups. Keep "
        "each group in one split, or make the task anew: bench new task NAME --from FILE --group COLUMN"
    )
    return _result(cases, message)


def _check_duplicates(checked: CheckedTask) -> CheckResult:
    first_rows: dict[tuple[str, str], CheckedRow] = {}
    cases = []
    for row in checked.rows:
        first = first_rows.setdefault((row.split, row.key), row)
        if first is not row:
            cases.append(f"{row} = {first.row.id}: {excerpt(row.row.input)}")
    return _result(cases, Message("Inputs that occur twice in one split, and so count twice. Remove one of them."))


def _check_contradictions(checked: CheckedTask) -> CheckResult:
    earlier_rows: dict[str, list[tuple[CheckedRow, set[str]]]] = defaultdict(list)
    cases = []
    for row in checked.rows:
        answers = set(map(match_key, row.answers))
        for other, other_answers in earlier_rows[row.key]:
            if not other_answers & answers:
                alternatives = " or ".join(excerpt(side.answers[0], ANSWER_COLUMNS) for side in (other, row))
                cases.append(f"{other}, {row}: {alternatives}?")
                break
        earlier_rows[row.key].append((row, answers))
    message = Message("The same input with another answer: at most one of them is right. Correct or remove one.")
    return _result(cases, message)


def _check_white_space(checked: CheckedTask) -> CheckResult:
    cases = []
    for row in checked.rows:
        texts = [("input", row.row.input), *(("target", text) for text in row.row.references)]
        texts.append(("rationale", row.row.rationale or ""))
        for field, text in texts:
            fault = find_white_space_fault(text)
            if fault is not None:
                name, position = fault
                cases.append(f"{row}, {field}, {name}: {excerpt(text, position=position)}")
                break
    message = Message("Characters that a reader does not see but a tokenizer does. Remove them; use Unicode NFC.")
    return _result(cases, message)


def _check_case(checked: CheckedTask) -> CheckResult:
    texts = [(str(row), text) for row in checked.rows for text in (row.row.target, row.answers[0])]
    texts += [("task.yaml, labels", label) for label in checked.task.card.labels or ()]
    texts = [(location, unicodedata.normalize("NFC", text)) for location, text in texts]
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for _, text in texts:
        spellings[spelling_key(text)][text] += 1
    cases: dict[str, str] = {}
    for location, text in texts:
        usual = spellings[spelling_key(text)].most_common(1)[0][0]
        if text != usual:
            shown, shown_usual = excerpt(text, ANSWER_COLUMNS), excerpt(usual, ANSWER_COLUMNS)
            case = Message("{location}: {text}, usually {usual}", location=location, text=shown, usual=shown_usual)
            cases.setdefault(location, case)
    message = Message("Answers that differ from a more common one only in case or spaces. Use one spelling.")
    return _result([*cases.values()], message)


def _check_cut(checked: CheckedTask) -> CheckResult:
    texts = [(row, text.rstrip()) for row in checked.rows for text in row.row.references]
    open_texts = [(row, text) for row, text in texts if _ends_open(text[-1])]
    if checked.task.card.labels is not None or len(texts) - len(open_texts) < MIN_CLOSED_SHARE * len(texts):
        return CheckResult(0, "")
    cases = [f"{row}: {excerpt(text, position=len(text))}" for row, text in open_texts]
    message = Message(
        "Targets without the closing mark that nearly all others end in: they may be truncated. Complete them."
    )
    return _result(cases, message)


def _ends_open(last_char: str) -> bool:
    return unicodedata.category(last_char)[0] in "LMN" or last_char in _OPEN_ENDS


def _check_format(checked: CheckedTask) -> CheckResult:
    pattern = checked.task.card.format
    cases = []
    for row in checked.rows:
        for text in row.row.references:
            if pattern is not None and re.fullmatch(pattern, text) is None:
                cases.append(f"{row}, format: {excerpt(text)}")
            elif checked.task.parse(text) is None:
                cases.append(f"{row}, answer: {excerpt(text)}")
    message = Message(
        "Targets that do not match the card's 'format' or 'answer'. Correct the target or the expression."
    )
    return _result(cases, message)


def _check_labels(checked: CheckedTask) -> CheckResult:
    present = {(row.split, text) for row in checked.rows for text in row.row.references}
    labels = checked.task.card.labels or ()
    cases = [f"{split}: {excerpt(label)}" for split in SPLITS for label in labels if (split, label) not in present]
    message = Message("Labels that never occur in a split: not learnt, or not tested. Add rows or remove the label.")
    return _result(cases, message)


def _check_length(checked: CheckedTask) -> CheckResult:
    max_answer = checked.task.card.new_tokens
    max_prompt = checked.context - max_answer
    cases = [
        Message(
            "{row}: prompt {prompt}, target {target}",
            row=str(row),
            prompt=row.prompt_tokens,
            target=row.target_tokens,
        )
        for row in checked.rows
        if row.prompt_tokens > max_prompt or row.target_tokens > max_answer
    ]
    message = Message(
        "A prompt may have {prompt} tokens and a target {target} (new_tokens); together they are the model's context. "
        "Longer prompts are truncated at the start, longer targets can never be generated. Shorten them, or change "
        "new_tokens.",
        prompt=max_prompt,
        target=max_answer,
    )
    return _result(cases, message)


def _check_near_duplicates(checked: CheckedTask) -> CheckResult:
    cases = []
    similar = near_duplicates([(row.split, row.key) for row in checked.rows])
    for index, (earlier_index, cosine) in similar.items():
        row, earlier = checked.rows[index], checked.rows[earlier_index]
        cases.append(f"{row} ~ {earlier}, {cosine:.2f}: {excerpt(row.row.input)}")
    message = Message(
        "Inputs that are nearly the same as one of an earlier split (cosine of 5-grams ≥ {cosine}). Read both.",
        cosine=NEAR_DUPLICATE_COSINE,
    )
    return _result(cases, message)


def _check_balance(checked: CheckedTask) -> CheckResult:
    labels = checked.task.card.labels
    if labels is None:
        return CheckResult(0, "")
    shares: dict[tuple[str, str], float] = {}
    for split, rows in checked.task.splits.items():
        counts = Counter(row.target for row in rows)
        shares |= {(split, label): counts[label] / len(rows) for label in labels}
    total_variation = sum(abs(shares["train", label] - shares["test", label]) for label in labels) / 2
    largest = max(shares["test", label] for label in labels)
    by_frequency = sorted(labels, key=lambda label: -shares["train", label])
    cases = [
        f"{excerpt(label, ANSWER_COLUMNS)}: "
        + ", ".join(f"{split} {units.format_score(shares[split, label])}" for split in SPLITS)
        for label in by_frequency
    ]
    message = Message(
        "Shares of the labels. Always answering the same label is right in up to {largest} of test. Between train "
        "and test the shares differ by {variation} (total variation).",
        largest=units.format_score(largest),
        variation=units.format_score(total_variation),
    )
    return CheckResult(len(labels), message, cases, MAX_LABELS_SHOWN)


def _check_token_lengths(checked: CheckedTask) -> CheckResult:
    cases = []
    for split in SPLITS:
        rows = [row for row in checked.rows if row.split == split]
        prompt = _quantiles(row.prompt_tokens for row in rows)
        target = _quantiles(row.target_tokens for row in rows)
        cases.append(Message("{split}: prompt {prompt}; target {target}", split=split, prompt=prompt, target=target))
    message = Message("Tokens of prompt and target: median, 95th percentile, maximum.")
    return CheckResult(len(checked.rows), message, cases)


def _quantiles(lengths: Iterable[int]) -> str:
    ordered = sorted(lengths)
    return ", ".join(str(ordered[math.ceil(share * len(ordered)) - 1]) for share in (0.5, 0.95, 1.0))


def _check_answer_in_input(checked: CheckedTask) -> CheckResult:
    cases = []
    for row in checked.rows:
        answer, text = row.answers[0], row.row.input
        position = find_answer(answer, text)
        if position is not None:
            case = Message(
                "{row}: {answer} in {text}",
                row=str(row),
                answer=excerpt(answer, ANSWER_COLUMNS),
                text=excerpt(text, position=position),
            )
            cases.append(case)
    share = len(cases) / len(checked.rows)
    message = Message(
        "In {share} of the rows the input contains the answer. This is fine if the task is to copy it.",
        share=units.format_score(share),
    )
    return _result(cases, message)


def _check_test_size(checked: CheckedTask) -> CheckResult:
    num_rows = len(checked.task.splits["test"])
    message = Message(
        "Few test rows: only large differences between methods can be detected. {rows} rows or more are recommended.",
        rows=RECOMMENDED_TEST_ROWS,
    )
    return CheckResult(num_rows if num_rows < RECOMMENDED_TEST_ROWS else 0, message)


def _check_normalized_numbers(checked: CheckedTask) -> CheckResult:
    rule = checked.task.card.normalize
    if rule == "text" or checked.task.scorer is not None:
        return CheckResult(0, "")
    rows_by_key: dict[str, dict[str, tuple[CheckedRow, str]]] = defaultdict(dict)
    for row in checked.rows:
        for answer in row.answers:
            number = canonical_number(answer.strip())
            if number is not None:
                rows_by_key[normalize_text(answer, rule)].setdefault(number, (row, answer))
    cases = [
        join_messages(
            " = ",
            [
                Message("{answer} of {row}", answer=excerpt(answer, ANSWER_COLUMNS), row=str(row))
                for row, answer in rows.values()
            ],
        )
        for rows in rows_by_key.values()
        if len(rows) > 1
    ]
    message = Message(
        "Different numbers that are the same answer with 'normalize: {rule}', because it removes signs and decimal "
        "points. Write normalize: text in task.yaml.",
        rule=rule,
    )
    return _result(cases, message)


LEAK_PATHS = (
    ("train", "validation"),
    ("train", "test"),
    ("validation", "test"),
    ("train", SHIFTED),
    ("validation", SHIFTED),
)
ERROR_CHECKS: tuple[tuple[str, Check], ...] = (
    *(("leak", partial(_check_leaks, *path)) for path in LEAK_PATHS),
    ("duplicate", _check_duplicates),
    ("contradiction", _check_contradictions),
    ("white-space", _check_white_space),
    ("case", _check_case),
    ("cut", _check_cut),
    ("format", _check_format),
    ("label", _check_labels),
    ("too-long", _check_length),
)
WARNING_CHECKS: tuple[tuple[str, Check], ...] = (
    ("group-leak", _check_group_leaks),
    ("near-duplicate", _check_near_duplicates),
    ("balance", _check_balance),
    ("lengths", _check_token_lengths),
    ("answer-in-input", _check_answer_in_input),
    ("small-test", _check_test_size),
    ("normalize", _check_normalized_numbers),
)
