"""What is wrong with a task's data, and what is worth knowing, before a run is spent on it: `bench validate`."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data.text import NEAR, blemish, excerpt, find_answer, form, match_key, near_duplicates
from bench.modeling.checkpoint import context_length, load_tokenizer
from bench.task import SPLITS, Task, TaskRow

EXAMPLES, LABELS, SHORT = 3, 20, 22
CLOSED, SMALL = 0.9, 500
_OPEN_ENDS = frozenset(",;:、·/&+=<([{«“‘-–—")


@dataclass(frozen=True)
class TaskFinding:
    """What one check found. A fault makes a task unsound, a remark does not."""

    check: str
    is_error: bool
    count: int
    message: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A row as the checks see it; `answers` are the parts of its accepted targets that `em` compares."""

    split: str
    row: TaskRow
    key: str
    answers: tuple[str, ...]
    prompt_tokens: int
    target_tokens: int

    def __str__(self) -> str:
        return f"{self.row.id} ({self.split})"


@dataclass(frozen=True)
class Seen:
    """All that a check may look at; `entries` in the order train, validation, test, `context` in tokens."""

    task: Task
    entries: tuple[Entry, ...]
    context: int


Found = tuple[int, str, Sequence[str]]
"""How many (0: no finding), what it means and what to do, examples."""


def check_task(task: Task, base: Path) -> list[TaskFinding]:
    """Faults, then remarks, of a loaded task; `base` is the folder of the model whose tokenizer measures it."""
    tokens, lesson = load_tokenizer(base), task.training_data(seed=0)
    first = tokens("a", True).index(tokens("a", False)[0])  # a beginning-of-sequence token, where the model has one
    entries = []
    for split in SPLITS:
        for row in task.splits[split]:
            texts = (lesson.prompt(row.input), lesson.completion(row))
            prompt, completion = (text.encode("utf-8", "replace").decode() for text in texts)
            head, whole = tokens(prompt, False), tokens(prompt + completion, False)
            # A token never spans the seam (see `bench.lm.CausalLM.encode`).
            tail = whole[len(head) :] if whole[: len(head)] == head else tokens(completion, False)
            answers = tuple(task.parse(text) or text for text in row.references)
            entries.append(Entry(split, row, match_key(row.input), answers, first + len(head), len(tail)))
    seen = Seen(task, tuple(entries), context_length(base))
    findings = []
    for fault, checks in ((True, FAULTS), (False, REMARKS)):
        for check in checks:
            count, said, examples = check(seen)
            if count:
                findings.append(TaskFinding(check.__name__[1:].replace("_", "-"), fault, count, said, tuple(examples)))
    return findings


def _leak(seen: Seen) -> Found:
    first: dict[str, Entry] = {}
    again = []
    for entry in seen.entries:
        other = first.setdefault(entry.key, entry)
        if other.split != entry.split:
            again.append(f"{entry} = {other}: {excerpt(entry.row.input)}")
    return _found(again, "Inputs that an earlier split shows already: the answer may be remembered. Drop one of them.")


def _duplicate(seen: Seen) -> Found:
    first: dict[tuple[str, str], Entry] = {}
    again = []
    for entry in seen.entries:
        other = first.setdefault((entry.split, entry.key), entry)
        if other is not entry:
            again.append(f"{entry} = {other.row.id}: {excerpt(entry.row.input)}")
    return _found(again, "Inputs that stand twice in one split, and so count twice. Drop one of them.")


def _contradiction(seen: Seen) -> Found:
    before: dict[str, list[tuple[Entry, set[str]]]] = defaultdict(list)
    against = []
    for entry in seen.entries:
        answers = set(map(match_key, entry.answers))
        other = next((other for other, theirs in before[entry.key] if not theirs & answers), None)
        if other is not None:
            wanted = " or ".join(excerpt(which.answers[0], SHORT) for which in (other, entry))
            against.append(f"{other}, {entry}: {wanted}?")
        before[entry.key].append((entry, answers))
    return _found(against, "The same input with another answer: at most one of the two can be right. Mend or drop one.")


def _white_space(seen: Seen) -> Found:
    stained = []
    for entry in seen.entries:
        fields = [("input", entry.row.input), *(("target", text) for text in entry.row.references)]
        for field, text in [*fields, ("rationale", entry.row.rationale or "")]:
            if found := blemish(text):
                stained.append(f"{entry}, {field}, {found[0]}: {excerpt(text, at=found[1])}")
                break
    return _found(stained, "Characters that a reader does not see and a tokenizer does. Clean them; write NFC.")


def _case(seen: Seen) -> Found:
    texts = [(str(entry), text) for entry in seen.entries for text in (entry.row.target, entry.answers[0])]
    texts += [("task.yaml, labels", label) for label in seen.task.card.labels or ()]
    texts = [(name, unicodedata.normalize("NFC", text)) for name, text in texts]
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for _, text in texts:
        forms[form(text)][text] += 1
    odd: dict[str, str] = {}
    for name, text in texts:
        usual = forms[form(text)].most_common(1)[0][0]
        if text != usual:
            odd.setdefault(name, f"{name}: {excerpt(text, SHORT)}, mostly {excerpt(usual, SHORT)}")
    return _found([*odd.values()], "Answers that differ from a more common one in case or spaces only. Use one form.")


def _cut(seen: Seen) -> Found:
    texts = [(entry, text.rstrip()) for entry in seen.entries for text in entry.row.references]
    ends = [(entry, text) for entry, text in texts if _is_open(text[-1])]
    if seen.task.card.labels is not None or len(texts) - len(ends) < CLOSED * len(texts):
        return _found([], "")
    cut = [f"{entry}: {excerpt(text, at=len(text))}" for entry, text in ends]
    return _found(cut, "Targets that stop without the closing sign that nearly all others end in. Complete them.")


def _is_open(last: str) -> bool:
    return unicodedata.category(last)[0] in "LMN" or last in _OPEN_ENDS


def _format(seen: Seen) -> Found:
    wanted, bad = seen.task.card.format, []
    for entry in seen.entries:
        for text in entry.row.references:
            if wanted is not None and re.fullmatch(wanted, text) is None:
                bad.append(f"{entry}, format: {excerpt(text)}")
            elif seen.task.parse(text) is None:
                bad.append(f"{entry}, answer: {excerpt(text)}")
    return _found(bad, "Targets that the card's own 'format' or 'answer' does not match. Mend the target or the regex.")


def _label(seen: Seen) -> Found:
    shown = {(entry.split, text) for entry in seen.entries for text in entry.row.references}
    labels = seen.task.card.labels or ()
    absent = [f"{split}: {excerpt(label)}" for split in SPLITS for label in labels if (split, label) not in shown]
    return _found(absent, "Labels that a split never shows: not learnt, or not tested. Add rows or drop the label.")


def _too_long(seen: Seen) -> Found:
    answer = seen.task.card.new_tokens
    prompt, long = seen.context - answer, []
    for entry in seen.entries:
        if entry.prompt_tokens > prompt or entry.target_tokens > answer:
            long.append(f"{entry}: prompt {entry.prompt_tokens}, target {entry.target_tokens}")
    said = f"A prompt may have {prompt} tokens, a target {answer} (new_tokens); together they are the model's context."
    return _found(long, f"{said} Longer prompts lose their head, longer targets are never given. Shorten, or change.")


def _near_duplicate(seen: Seen) -> Found:
    near = []
    for here, (there, cosine) in near_duplicates([(entry.split, entry.key) for entry in seen.entries]).items():
        entry, other = seen.entries[here], seen.entries[there]
        near.append(f"{entry} ~ {other}, {cosine:.2f}: {excerpt(entry.row.input)}")
    return _found(near, f"Inputs worded nearly like one of an earlier split (cosine of 5-grams ≥ {NEAR}). Read both.")


def _balance(seen: Seen) -> Found:
    labels = seen.task.card.labels
    share: dict[tuple[str, str], float] = {}
    if labels is None:
        return _found([], "")
    for split, rows in seen.task.splits.items():
        counts = Counter(row.target for row in rows)
        share |= {(split, label): counts[label] / len(rows) for label in labels}
    apart = sum(abs(share["train", label] - share["test", label]) for label in labels) / 2
    most = max(share["test", label] for label in labels)
    said = f"Shares of the labels. Always giving the same label is right in up to {most:.1%} of test."
    lines = [
        f"{excerpt(label, SHORT)}: " + ", ".join(f"{split} {share[split, label]:.1%}" for split in SPLITS)
        for label in sorted(labels, key=lambda label: -share["train", label])[:LABELS]
    ]
    return len(labels), f"{said} Between train and test they differ by {apart:.1%} (total variation).", lines


def _lengths(seen: Seen) -> Found:
    lines = []
    for split in SPLITS:
        of = [entry for entry in seen.entries if entry.split == split]
        prompt, target = (_quantiles(getattr(entry, f"{name}_tokens") for entry in of) for name in ("prompt", "target"))
        lines.append(f"{split}: prompt {prompt}; target {target}")
    return len(seen.entries), "Tokens of prompt and target: median, 95th percentile, longest.", lines


def _quantiles(lengths: Iterable[int]) -> str:
    ordered = sorted(lengths)
    return ", ".join(str(ordered[math.ceil(share * len(ordered)) - 1]) for share in (0.5, 0.95, 1.0))


def _answer_in_input(seen: Seen) -> Found:
    told = []
    for entry in seen.entries:
        answer, text = entry.answers[0], entry.row.input
        at = find_answer(answer, text)
        if at is not None:
            told.append(f"{entry}: {excerpt(answer, SHORT)} in {excerpt(text, at=at)}")
    share = len(told) / len(seen.entries)
    return _found(told, f"In {share:.1%} of the rows the input contains the answer. Fine if copying is what is asked.")


def _small_test(seen: Seen) -> Found:
    rows = len(seen.task.splits["test"])
    said = f"Few test rows: only large differences between methods can be seen. {SMALL} rows or more are better."
    return (rows if rows < SMALL else 0), said, ()


Check = Callable[[Seen], Found]
FAULTS: tuple[Check, ...] = (_leak, _duplicate, _contradiction, _white_space, _case, _cut, _format, _label, _too_long)
REMARKS: tuple[Check, ...] = (_near_duplicate, _balance, _lengths, _answer_in_input, _small_test)


def _found(all_: Sequence[str], said: str) -> Found:
    return len(all_), said, all_[:EXAMPLES]
