"""Schedule of the training curve: validation rows and steps, by the computation they take.

The choice depends on numbers of rows, tokens and weights and not on measured seconds, so equal settings give equal
curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from bench.method import LM, Budget, TrainingData
from bench.training.gradient import Rows

MAX_POINTS = 10
"""Points of the training curve at most, without the one before training."""
MIN_POINTS = 4
"""Points, without the one before training, for which the rows of a point are halved before points are left out."""
MAX_ROWS = 128
MIN_ROWS = 16
"""Validation rows of a point at least; a curve that cannot have them has no points, if the task has them."""
ENOUGH_TOKENS = 1500
"""Completion tokens after which a point needs no further validation rows."""
CURVE_SHARE = 0.05
"""Computation of the whole curve at most, as a share of that of training. It is half of what the curve may take in
seconds, because computation in small batches is slower."""
DECISION_SHARE = 0.5
"""The same where the curve decides which weights are kept or when training stops."""
FORWARDS_PER_STEP = 2
"""Forward passes that a training step takes at least on the same rows; with a frozen base the backward pass takes one,
and two if all weights are trained."""
FREE_OPERATIONS = 1e10
"""Floating-point operations, a tenth of a second of a slow processor, that a curve may always take."""
SAMPLE_ROWS = 128
"""Training examples whose mean length stands for all of them."""


class CurveSchedule:
    """Steps at which the loss is measured, and the validation rows that are read there.

    Args:
        rows: Validation rows as token ids, in the order to take them.
        training_tokens: Tokens of the planned training.
        steps: Steps of the planned training.
        share: Computation of the curve, as a share of that of training.
        free_tokens: Tokens that may always be read.
        may_end_early: True if a limit on seconds may end training after any step. Then there is no point before
            training, and a point is left out if the training so far does not pay for it.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        training_tokens: float,
        steps: int,
        share: float,
        free_tokens: float = 0.0,
        may_end_early: bool = False,
    ) -> None:
        self._share, self._free_tokens, self._may_end_early = share, free_tokens, may_end_early
        self._spent_tokens = 0
        self._cumulated = [0, *accumulate(len(prompt) + len(completion) for prompt, completion in rows)]
        count = enough_rows(rows)
        allowed_tokens = self._allowed_tokens(training_tokens)
        points = self._affordable_points(count, allowed_tokens)
        while points <= MIN_POINTS and count >= 2 * MIN_ROWS:
            count //= 2
            points = self._affordable_points(count, allowed_tokens)
        self.rows = rows[:count] if points > 0 else []
        self.has_start = points > 1 and not may_end_early
        points_in_training = min(MAX_POINTS, max(points - 1, 1))
        self.interval = max(math.ceil(steps / points_in_training), 1)

    @classmethod
    def plan(cls, lm: LM, data: TrainingData, budget: Budget, rows: Rows, *, steps: int, share: float) -> CurveSchedule:
        """Plan the curve of a run.

        It is the same for all methods of a comparison, also if they make other rows from the training examples.

        Args:
            lm: Model to train.
            data: Training data; the mean length of its first examples is taken.
            budget: Budget of the run.
            rows: Validation rows.
            steps: Steps of the whole training.
            share: Computation of the curve, as a share of that of training.
        """
        sample = [
            lm.encode(data.prompt(example.input), data.completion(example)) for example in data.train[:SAMPLE_ROWS]
        ]
        mean_tokens = sum(len(prompt) + len(completion) for prompt, completion in sample) / max(len(sample), 1)
        examples = budget.planned_steps * min(budget.batch, len(data.train))
        return cls(
            rows,
            training_tokens=budget.limit_tokens(examples * mean_tokens),
            steps=steps,
            share=share,
            free_tokens=FREE_OPERATIONS / (2 * max(lm.count_parameters()[0], 1)),
            may_end_early=budget.has_time_limit,
        )

    def is_due(self, step: int) -> bool:
        """Tell if the curve has a point after `step` steps, beside the first and the last one."""
        return bool(self.rows) and step % self.interval == 0

    def take_rows(self, trained_tokens: int) -> Rows:
        """Return the rows of the next point and count them; none if they would take too long."""
        count = len(self.rows)
        if self._may_end_early:
            allowed_tokens = self._allowed_tokens(trained_tokens)
            if not self._spent_tokens:  # points of one curve have the same rows
                while count >= 2 * MIN_ROWS and self._cumulated[count] > allowed_tokens:
                    count //= 2
            if self._spent_tokens + self._cumulated[count] > allowed_tokens:
                return []
        self.rows = self.rows[:count]
        self._spent_tokens += self._cumulated[count]
        return self.rows

    def _allowed_tokens(self, training_tokens: float) -> float:
        return max(self._share * FORWARDS_PER_STEP * training_tokens, self._free_tokens)

    def _affordable_points(self, count: int, allowed_tokens: float) -> int:
        """Return the affordable points of `count` rows, the one before training included."""
        return int(allowed_tokens // self._cumulated[count]) if count else 0


def enough_rows(rows: Sequence[tuple[list[int], list[int]]]) -> int:
    """Return the number of first rows that reach `ENOUGH_TOKENS` completion tokens, or of all."""
    totals = accumulate(len(completion) for _, completion in rows)
    return next((number for number, tokens in enumerate(totals, start=1) if tokens >= ENOUGH_TOKENS), len(rows))
