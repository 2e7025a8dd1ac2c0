"""The budget: the same grant for every method of a comparison, held and metered by the run."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from bench.errors import UserError, did_you_mean
from bench.method import BudgetExhausted, ProgressCallback
from bench.records.cost import BudgetUsage
from bench.records.record import BudgetLimits
from bench.units import parse_bytes

PRESETS = {
    "ci": BudgetLimits(examples=128, epochs=1),
    "quick": BudgetLimits(examples=200, epochs=1),
    "standard": BudgetLimits(epochs=3),
    "tuned": BudgetLimits(epochs=3, trials=8),
}
LATELY = 8
FIELDS = list(BudgetLimits.model_fields)


def parse_budget(text: str) -> BudgetLimits:
    """A preset's name, `key=value` pairs, or a preset and what to change in it: `quick,epochs=2`."""
    grant: dict[str, object] = {}
    for place, part in enumerate(text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if place or name not in PRESETS:
                raise UserError(f"--budget {text}: no preset '{name}'", hint=did_you_mean(name, PRESETS))
            grant = PRESETS[name].model_dump()
        elif name not in FIELDS:
            raise UserError(f"--budget {text}: a budget has no '{name}'", hint=did_you_mean(name, FIELDS))
        else:
            grant[name] = None if value in ("none", "null") else value
    try:
        if isinstance(grant.get("memory"), str):
            grant["memory"] = parse_bytes(str(grant["memory"]))
    except ValueError as error:
        raise UserError(f"--budget {text}: memory={grant['memory']} is {error}", hint="memory=2GiB") from None
    try:
        granted = BudgetLimits.model_validate(grant)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"--budget {text}: {first['loc'][0]}={first['input']} is refused: {first['msg'].lower()}",
            hint="give a positive number, or 'none' for no limit",
        ) from None
    if granted.epochs is None and granted.steps is None:
        raise UserError(
            f"--budget {text}: neither passes nor steps is limited, so training would never end",
            hint="add epochs=3 or steps=200; seconds and tokens may cut it shorter",
        )
    return granted


class BudgetTracker:
    """Meters what one method draws and refuses what exceeds the grant."""

    def __init__(self, limits: BudgetLimits, examples: int, on_progress: ProgressCallback = lambda event: None) -> None:
        """`examples` are the training examples the method was given; `watch` hears of every draw."""
        self.limits, self.train_size, self.on_progress = limits, max(examples, 1), on_progress
        self.steps = self.examples = self.tokens = 0
        self.micro_batch: int | None = None
        self.flops: float | None = None
        self.estimated_bytes: int | None = None
        self.stopped_by: str | None = None
        self._paused = 0.0
        self._begun: tuple[float, int] | None = None  # when the last steps were begun, and how many
        self._lately: deque[float] = deque(maxlen=LATELY)  # seconds per step of those before
        self._started = time.perf_counter()
        self._stopped: float | None = None

    @property
    def batch(self) -> int:
        """Examples per optimizer step."""
        return self.limits.batch

    @property
    def planned_steps(self) -> int:
        """Optimizer steps that passes and steps allow; tokens or seconds may end training sooner."""
        return self.plan_steps(self.train_size)

    def plan_steps(self, rows: int) -> int:
        """The same where the examples are packed into so many rows."""
        limits = [self.limits.steps or math.inf]
        if self.limits.epochs:
            limits.append(self.limits.epochs * math.ceil(rows / self.batch))
        return int(min(limits))

    @property
    def seconds(self) -> float:
        """Seconds on the clock so far."""
        return (self._stopped or time.perf_counter()) - self._started - self._paused

    def stop(self) -> None:
        """Stop the clock for good."""
        self._stopped = time.perf_counter()

    @contextmanager
    def off_clock(self) -> Iterator[None]:
        """Seconds inside are not charged: for evaluation on the way."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

    def can_afford(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> bool:
        """Whether a draw of this size is still within the grant; notes the first limit that says no."""
        limit = self._limit_hit(steps, examples, tokens)
        self.stopped_by = self.stopped_by or limit
        return limit is None

    def spend(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> None:
        """Take from the grant before working; raises `BudgetExhausted`, and takes nothing, if it would exceed it."""
        if not self.can_afford(steps=steps, examples=examples, tokens=tokens):
            raise BudgetExhausted(
                f"the budget of {self.stopped_by} is used up: {self.limits.model_dump(exclude_none=True)}"
            )
        if steps:
            self._lately.append(self._last())
            self._begun = self.seconds, steps
        self.steps, self.examples, self.tokens = self.steps + steps, self.examples + examples, self.tokens + tokens
        self.on_progress(
            {"step": self.steps, "steps": self.planned_steps, "tokens": self.tokens, "spent_s": self.seconds}
            | {"granted_s": self.limits.seconds}
        )

    def usage(self) -> BudgetUsage:
        """What was drawn, for the record."""
        return BudgetUsage(
            train_size=self.train_size,
            examples=self.examples,
            epochs=round(self.examples / self.train_size, 4),
            steps=self.steps,
            tokens=self.tokens,
            seconds=round(self.seconds, 4),
            micro_batch=self.micro_batch,
            flops=self.flops,
            stopped_by=self.stopped_by,
        )

    def _last(self) -> float:
        """Seconds per step of the steps begun last, as if they ended now."""
        return (self.seconds - self._begun[0]) / self._begun[1] if self._begun else 0.0

    def _limit_hit(self, steps: int, examples: int, tokens: int) -> str | None:
        grant = self.limits
        if grant.steps and self.steps + steps > grant.steps:
            return "steps"
        if grant.epochs and self.examples + examples > grant.epochs * self.train_size:
            return "epochs"
        if grant.tokens and self.tokens + tokens > grant.tokens:
            return "tokens"
        # Only new work can come too late; tokens are counted after the fact. A step cannot be cut in the middle,
        # so it is begun only if one as slow as the slowest of late still fits.
        coming = steps * max((self._last(), *self._lately)) if steps else 0.0
        if grant.seconds and (steps or examples) and self.seconds + coming > grant.seconds:
            return "seconds"
        return None
