"""Shots of prompting methods, and choices among prompts by their validation scores."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from bench.method import LM, Budget, Example, TrainingData, Unsupported
from bench.records import save_prompt

OPEN_SHOTS = 4
"""Solved examples in a prompt for open answers, if their number is `auto`."""
MAX_LABEL_SHOTS = 24
"""Most solved examples in a prompt for closed labels if their number is `auto`, but at least one per label."""
MAX_VALIDATION_QUESTIONS = 100
"""Validation questions, drawn by the seed, that decide on calibration of one set of shots."""
MAX_QUESTIONS_PER_DRAW = 50
"""Validation questions for each of several sets of shots."""
VALIDATION_BATCH = 50
"""Validation questions that are asked between two looks at the budget."""
CONTENT_FREE_QUESTIONS = ("N/A", "[MASK]", "")
"""Questions without content, whose mean scores calibration subtracts (https://arxiv.org/abs/2102.09690)."""
NEAREST_SHOTS_FILE = "nearest_shots.json"
"""File of the examples to choose from for each question; an export looks for it."""

ShotCount = int | Literal["auto"]
Selection = Literal["random", "validated", "nearest"]
Calibration = bool | Literal["auto"]
Answer = Callable[[list[str]], list[str]]
"""Returns the answers to prompts."""


@dataclass(frozen=True)
class Shots:
    """Solved examples that stand before every question; none for a prompt without examples."""

    lm: LM
    data: TrainingData
    examples: Sequence[Example] = ()
    with_rationale: bool = False

    @property
    def count(self) -> int:
        """Shots before a question."""
        return len(self.examples)

    @property
    def examples_read(self) -> int:
        """Training examples read, for the budget."""
        return len(self.examples)

    def prompt(self, text: str) -> str:
        """Return instruction, as many shots as fit into the context, and the question."""
        return self.data.prompt(text, self.fit_context(text).examples, with_rationale=self.with_rationale)

    def fit_context(self, text: str) -> Self:
        """Return the shots that fit into the context with a question; the last are left out first."""
        max_prompt_tokens = self.lm.context - self.lm.max_new_tokens
        count = len(self.examples)
        while count and len(self.lm.tokens(self._prompt_with(text, count))) > max_prompt_tokens:
            count -= 1
        return replace(self, examples=self.examples[:count])

    def save(self, folder: Path) -> None:
        """Save the prompt with `{input}` in place of the question."""
        save_prompt(folder, self._prompt_with("{input}", len(self.examples)))

    def _prompt_with(self, text: str, count: int) -> str:
        return self.data.prompt(text, self.examples[:count], with_rationale=self.with_rationale)


@dataclass
class NearestShots:
    """The training examples most similar to each question (https://arxiv.org/abs/2101.06804).

    The similarity is the cosine of TF-IDF vectors of character n-grams, as in the method `nearest`.
    """

    lm: LM
    data: TrainingData
    examples: Sequence[Example]
    """Examples to choose from."""
    count: int
    """Shots before a question; fewer if they do not fit into the context."""
    with_rationale: bool = False
    vectorizer: Any = field(init=False)
    vectors: Any = field(init=False)

    def __post_init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
        self.vectors = self.vectorizer.fit_transform(example.input for example in self.examples)

    @property
    def examples_read(self) -> int:
        """Training examples read, for the budget."""
        return len(self.examples)

    def prompt(self, text: str) -> str:
        """Return instruction, shots and question; the most similar shot comes last."""
        similarities = (self.vectorizer.transform([text]) @ self.vectors.T).toarray()[0]
        nearest_first = (-similarities).argsort(kind="stable")[: self.count]
        shots = Shots(self.lm, self.data, [self.examples[index] for index in nearest_first], self.with_rationale)
        examples = shots.fit_context(text).examples
        return self.data.prompt(text, examples[::-1], with_rationale=self.with_rationale)

    def save(self, folder: Path) -> None:
        """Save the prompt without shots, and the examples to choose from."""
        save_prompt(folder, self.data.prompt("{input}"))
        names = ("input", "target", "rationale") if self.with_rationale else ("input", "target")
        examples = [{name: getattr(example, name) for name in names} for example in self.examples]
        content = json.dumps({"count": self.count, "examples": examples}, ensure_ascii=False, indent=1)
        (folder / NEAREST_SHOTS_FILE).write_text(content, "utf-8")


@dataclass(frozen=True)
class PromptChoice:
    """Shots and calibration of a fitted method."""

    shots: Shots | NearestShots
    prior: list[float]
    """Value that calibration subtracts from the log-likelihood of each label; empty if it does not calibrate."""
    report: dict[str, Any]
    """The choice and its scores, for the record."""

    def save(self, folder: Path) -> None:
        """Save prompt or examples, and the values that calibration subtracts."""
        self.shots.save(folder)
        if self.prior:
            (folder / "prior.json").write_text(json.dumps(self.prior), "utf-8")


def answer_prompts(lm: LM, data: TrainingData, prompts: Sequence[str], prior: Sequence[float] = ()) -> list[str]:
    """Return each prompt's most likely label, or its continuation for open answers.

    Args:
        lm: The model.
        data: Training data with the labels.
        prompts: Prompts up to where the answer begins.
        prior: Value subtracted from the log-likelihood of each label, in nats per token; empty for none.
    """
    if data.labels is None:
        return lm.generate(prompts)
    return [data.labels[index] for index in lm.choose_label(prompts, data.options, prior)]


def select_shots(
    lm: LM,
    data: TrainingData,
    candidates: Sequence[Example],
    *,
    k: ShotCount,
    select: Selection,
    draws: int,
    with_rationale: bool = False,
) -> list[Shots | NearestShots]:
    """Return the sets of shots to choose from; several only if `select` is `validated`.

    Args:
        lm: The model, whose context limits the number of shots.
        data: Training data; its seed decides the choice.
        candidates: Examples to choose from.
        k: Number of shots. Fewer are chosen if they do not fit together with the longest validation question.
        select: How the shots are selected.
        draws: Number of random sets if `select` is `validated`.
        with_rationale: Show the rationale of each shot.
    """
    counts = _automatic_counts(data) if k == "auto" else [k]
    if select == "nearest":
        return [NearestShots(lm, data, candidates, counts[0], with_rationale)]
    longest = max((example.input for example in data.validation), key=lambda text: len(lm.tokens(text)))
    sets: list[Shots | NearestShots] = []
    for draw in range(draws if select == "validated" else 1):
        for count in counts:
            shots = Shots(lm, data, _sample_balanced(data, candidates, count, draw), with_rationale)
            fitting = shots.fit_context(longest)
            if len(fitting.examples) == len(shots.examples):
                break
        sets.append(fitting)
    return sets


def choose_prompt(
    lm: LM,
    data: TrainingData,
    budget: Budget,
    shot_sets: Sequence[Shots | NearestShots],
    *,
    calibrate: Calibration = False,
    answer: Answer | None = None,
) -> PromptChoice:
    """Choose shots, and on closed labels calibration, by the score on validation questions.

    Nothing is asked if there is nothing to choose. When the budget ends, the best choice so far is kept.

    Args:
        lm: The model.
        data: Training data with the validation questions.
        budget: Counts shots and validation questions as examples, and the tokens of the prompts.
        shot_sets: Shots to choose from, at least one.
        calibrate: Subtract the scores of the labels without a question; `auto` for the better of both.
        answer: Returns the answers to prompts; None for the likeliest label, or for generated text on open answers.

    Raises:
        Unsupported: The budget does not allow the calibration that was asked for.
    """
    max_questions = MAX_VALIDATION_QUESTIONS if len(shot_sets) == 1 else MAX_QUESTIONS_PER_DRAW
    validation = _Validation(lm, data, budget, answer, max_questions)
    flags = (False, True) if calibrate == "auto" else (calibrate,)
    is_decided = len(shot_sets) == len(flags) == 1
    variants: list[_Variant] = []
    sets_asked = 0
    for shots in shot_sets:
        if variants and not budget.can_afford(examples=shots.examples_read + validation.questions):
            break
        budget.spend(examples=shots.examples_read)
        scored = validation.score_variants(shots, flags, ask=not is_decided)
        if not scored:
            break
        variants += scored
        sets_asked += 1
    if not variants:
        variants = [_Variant(shot_sets[0], [], None)]
    best = max(variants, key=lambda variant: variant.score or 0.0)  # of equals the first, without calibration
    report: dict[str, Any] = {"shots": best.shots.count} if best.shots.count else {}
    if data.labels is not None and answer is None:
        report["calibrated"] = bool(best.prior)
    if not is_decided:
        report["validation_questions"] = validation.questions
        for variant in variants:
            if variant.shots is best.shots and variant.score is not None:
                kind = "" if len(flags) == 1 else "_calibrated" if variant.prior else "_uncalibrated"
                report[f"validation_score{kind}"] = round(variant.score, 4)
        if len(shot_sets) > 1:
            report["draws"] = sets_asked
    return PromptChoice(best.shots, best.prior, report)


@dataclass(frozen=True)
class _Variant:
    """A way of prompting, with its mean score on the validation questions."""

    shots: Shots | NearestShots
    prior: list[float]
    score: float | None
    """None if no question was asked."""


@dataclass
class _Validation:
    """Validation questions, asked with several prompts as far as the budget goes."""

    lm: LM
    data: TrainingData
    budget: Budget
    answer: Answer | None
    max_questions: int
    questions: int = 0
    """Questions that the first prompt was asked; a later prompt has to be asked as many to be compared."""
    rows: Sequence[Example] = field(init=False)

    def __post_init__(self) -> None:
        rows = list(self.data.validation)
        self.rows = random.Random(self.data.seed).sample(rows, min(len(rows), self.max_questions))

    def score_variants(self, shots: Shots | NearestShots, flags: Sequence[bool], *, ask: bool = True) -> list[_Variant]:
        """Return the variants of a prompt with their scores, with and without calibration.

        Args:
            shots: Shots before the questions.
            flags: True for a variant with calibration, False for one without.
            ask: Score the variants by the questions.

        Returns:
            The variants; none if the budget ends before they can be compared with earlier ones.
        """
        prior = self._prior(shots) if True in flags else []
        if not prior and False not in flags:
            if self.questions:
                return []
            raise Unsupported("the budget is too small for the prompts that calibration needs")
        if not ask:
            return [_Variant(shots, prior, None)]
        is_choice = self.data.labels is not None and self.answer is None
        results = self._ask(shots.prompt, self._loglikelihoods if is_choice else self.answer or self._generate)
        if not results or len(results) < self.questions:
            return []
        self.questions = len(results)
        if not is_choice:
            return [_Variant(shots, [], self._mean_score(results))]
        priors = [prior if flag else [] for flag in flags if prior or not flag]
        return [_Variant(shots, values, self._mean_score(self._choose(results, values))) for values in priors]

    def _ask(self, write_prompt: Callable[[str], str], read: Callable[[list[str]], list[Any]]) -> list[Any]:
        """Return what `read` gives for the questions, in batches until the budget ends."""
        results: list[Any] = []
        while len(results) < len(self.rows):
            prompts = [write_prompt(row.input) for row in self.rows[len(results) :][:VALIDATION_BATCH]]
            lengths = [len(self.lm.tokens(prompt)) for prompt in prompts]
            size = len(prompts)
            while size and not self.budget.can_afford(examples=size, tokens=sum(lengths[:size])):
                size //= 2
            if not size:
                break
            self.budget.spend(examples=size, tokens=sum(lengths[:size]))
            with self.budget.validation(on_clock=True):
                results += read(prompts[:size])
        return results

    def _loglikelihoods(self, prompts: list[str]) -> list[list[float]]:
        return self.lm.loglikelihoods(prompts, self.data.options)

    def _generate(self, prompts: list[str]) -> list[str]:
        return self.lm.generate(prompts)

    def _choose(self, loglikelihoods: Sequence[Sequence[float]], prior: Sequence[float]) -> list[str]:
        """Return the likeliest label of each question."""
        assert self.data.labels is not None
        offsets = prior or [0.0] * len(self.data.labels)
        differences = [[value - offset for value, offset in zip(row, offsets, strict=True)] for row in loglikelihoods]
        return [self.data.labels[row.index(max(row))] for row in differences]

    def _mean_score(self, answers: Sequence[str]) -> float:
        scores = [self.data.score(answer, row) for answer, row in zip(answers, self.rows, strict=False)]
        return sum(scores) / len(scores)

    def _prior(self, shots: Shots | NearestShots) -> list[float]:
        """Return the mean log-likelihood of each label without a question.

        Empty if the budget does not allow it.
        """
        prompts = [shots.prompt(text) for text in CONTENT_FREE_QUESTIONS]
        tokens = sum(len(self.lm.tokens(prompt)) for prompt in prompts)
        if not self.budget.can_afford(tokens=tokens):
            return []
        self.budget.spend(tokens=tokens)
        rows = self.lm.loglikelihoods(prompts, self.data.options)
        return [sum(values) / len(values) for values in zip(*rows, strict=True)]


def _automatic_counts(data: TrainingData) -> list[int]:
    """Return the numbers of shots to try, largest first: whole rounds over closed labels."""
    if data.labels is None:
        return [OPEN_SHOTS]
    max_rounds = max(1, MAX_LABEL_SHOTS // len(data.labels))
    return [rounds * len(data.labels) for rounds in range(max_rounds, 0, -1)]


def _sample_balanced(data: TrainingData, candidates: Sequence[Example], k: int, draw: int) -> list[Example]:
    """Return `k` examples in random order, balanced over closed labels."""
    rng = random.Random(data.seed) if not draw else random.Random(f"{data.seed} {draw}")
    shuffled = rng.sample(list(candidates), len(candidates))
    if data.labels is None:
        return shuffled[:k]
    by_label: dict[str, list[Example]] = defaultdict(list)
    for example in shuffled:
        by_label[example.target].append(example)
    # One example of each label per turn.
    alternating = [example for turn in range(k) for group in by_label.values() for example in group[turn : turn + 1]]
    return rng.sample(alternating[:k], min(k, len(alternating)))
