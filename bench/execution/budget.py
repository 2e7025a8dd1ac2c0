"""Budget of a run: limits that are the same for every method of a comparison.

The run enforces the limits and measures what is used of them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.method import BudgetExhausted, ProgressCallback
from bench.records import BudgetLimits, BudgetUsage
from bench.records.budget_text import PRESETS
from bench.units import parse_bytes

RECENT_STEPS = 8
"""Step durations that decide if another step ends in time."""
LIMIT_NAMES = list(BudgetLimits.model_fields)


def parse_budget(text: str) -> BudgetLimits:
    """Parse the value of `--budget`.

    Args:
        text: Name of a preset, `key=value` pairs, or a preset and changes to it: `quick,epochs=2`. The value `none`
            removes a limit.

    Raises:
        UserError: A name is unknown, a value is invalid, or no limit ends training.
    """
    option = f"--budget {text}"
    values = _parse_pairs(text, option)
    try:
        if isinstance(values.get("memory"), str):
            values["memory"] = parse_bytes(str(values["memory"]))
    except ValueError as error:
        raise UserError(
            Message("{option}: memory={memory} is {problem}", option=option, memory=values["memory"], problem=error),
            hint="memory=2GiB",
        ) from None
    try:
        limits = BudgetLimits.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            Message(
                "{option}: {key}={text} is invalid: {problem}",
                option=option,
                key=first["loc"][0],
                text=first["input"],
                problem=first["msg"].lower(),
            ),
            hint=Message("give a positive number, or 'none' for no limit"),
        ) from None
    if limits.epochs is None and limits.steps is None:
        raise UserError(
            Message("{option}: neither epochs nor steps is limited, so training would never end", option=option),
            hint=Message("add epochs=3 or steps=200; seconds and tokens may end training sooner"),
        )
    return limits


def _parse_pairs(text: str, option: str) -> dict[str, object]:
    """Parse a text such as `quick,steps=50` into limits by name; a preset may come first.

    Values of the text are not converted, except that `none` and `null` give None.
    """
    values: dict[str, object] = {}
    for index, part in enumerate(text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if index or name not in PRESETS:
                raise UserError(
                    Message("{option}: preset '{name}' not found", option=option, name=name),
                    hint=did_you_mean(name, PRESETS),
                )
            values = PRESETS[name].model_dump()
        elif name not in LIMIT_NAMES:
            raise UserError(
                Message("{option}: a budget has no limit '{name}'", option=option, name=name),
                hint=did_you_mean(name, LIMIT_NAMES),
            )
        else:
            values[name] = None if value in ("none", "null") else value
    return values


class BudgetTracker:
    """Measures the use of a budget and rejects work beyond its limits.

    Implements `bench.method.Budget`.
    """

    def __init__(self, limits: BudgetLimits, examples: int, on_progress: ProgressCallback = lambda event: None) -> None:
        """Start the clock.

        Args:
            limits: The limits.
            examples: Number of training examples that the method was given.
            on_progress: Receives steps, tokens and seconds whenever something is spent.
        """
        self.limits, self.train_size, self.on_progress = limits, max(examples, 1), on_progress
        self.steps = self.examples = self.tokens = 0
        self.micro_batch: int | None = None
        self.activation_checkpointing = False
        self.flops: float | None = None
        self.estimated_bytes: int | None = None
        self.tried_memory: bool | None = None
        self.must_try_memory = False
        self.stopped_by: str | None = None
        """Name of the first limit that was hit, or `patience`; None if the method ended by itself."""
        self.validation_s = 0.0
        """Seconds of measuring the validation loss."""
        self._paused_s = 0.0
        self._last_spend: tuple[float, int] | None = None  # seconds on the clock, and the steps begun then
        self._recent_step_s: deque[float] = deque(maxlen=RECENT_STEPS)  # seconds per step, before the last spend
        self._started_at = time.perf_counter()
        self._stopped_at: float | None = None

    @property
    def batch(self) -> int:
        """Examples per optimizer step."""
        return self.limits.batch

    @property
    def planned_steps(self) -> int:
        """Optimizer steps that epochs and steps allow; tokens or seconds may end training sooner."""
        return self.plan_steps(self.train_size)

    def plan_steps(self, rows: int) -> int:
        """Return `planned_steps` for examples that are packed into `rows` rows."""
        limits = [self.limits.steps or math.inf]
        if self.limits.epochs:
            limits.append(self.limits.epochs * math.ceil(rows / self.batch))
        return int(min(limits))

    @property
    def has_time_limit(self) -> bool:
        """True if a limit on seconds may end training after any step."""
        return self.limits.seconds is not None

    def limit_tokens(self, tokens: float) -> float:
        """Return a number of tokens, or their limit if it is smaller."""
        return min(tokens, self.limits.tokens or math.inf)

    @property
    def seconds(self) -> float:
        """Seconds on the clock so far."""
        return (self._stopped_at or time.perf_counter()) - self._started_at - self._paused_s

    def restarted(self) -> BudgetTracker:
        """Return the budget for training again from the start, which must try a step.

        The clock goes on.
        """
        restarted = BudgetTracker(self.limits, self.train_size, self.on_progress)
        restarted._started_at, restarted._paused_s = self._started_at, self._paused_s
        restarted.validation_s, restarted.must_try_memory = self.validation_s, True
        return restarted

    def stop(self) -> None:
        """Stop the clock for good."""
        self._stopped_at = time.perf_counter()

    @contextmanager
    def off_clock(self) -> Iterator[None]:
        """Pause the clock while the context lasts, for evaluation during training."""
        paused_at = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - paused_at

    @contextmanager
    def validation(self, *, on_clock: bool) -> Iterator[None]:
        """Measure the seconds of the context, and pause the clock unless they count as training.

        They never count as a part of a step, so they do not change the seconds that the next step is expected to take.
        """
        began_at = time.perf_counter()
        try:
            yield
        finally:
            elapsed_s = time.perf_counter() - began_at
            self.validation_s += elapsed_s
            if not on_clock:
                self._paused_s += elapsed_s
            elif self._last_spend is not None:
                spent_at, steps = self._last_spend
                self._last_spend = spent_at + elapsed_s, steps

    def can_afford(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> bool:
        """Return True if this much work is within the limits.

        The first limit that is hit becomes `stopped_by`.
        """
        limit = self._limit_hit(steps, examples, tokens)
        self.stopped_by = self.stopped_by or limit
        return limit is None

    def spend(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> None:
        """Count work before it is done.

        Raises:
            BudgetExhausted: The work would exceed a limit; nothing is counted then.
        """
        if not self.can_afford(steps=steps, examples=examples, tokens=tokens):
            raise BudgetExhausted(
                f"the budget of {self.stopped_by} is used up: {self.limits.model_dump(exclude_none=True)}"
            )
        if steps:
            self._recent_step_s.append(self._current_step_s())
            self._last_spend = self.seconds, steps
        self.steps += steps
        self.examples += examples
        self.tokens += tokens
        self.on_progress(
            {
                "step": self.steps,
                "steps": self.planned_steps,
                "tokens": self.tokens,
                "spent_s": self.seconds,
                "granted_s": self.limits.seconds,
            }
        )

    def usage(self) -> BudgetUsage:
        """Return what was used, for the record."""
        return BudgetUsage(
            train_size=self.train_size,
            examples=self.examples,
            epochs=round(self.examples / self.train_size, 4),
            steps=self.steps,
            tokens=self.tokens,
            seconds=round(self.seconds, 4),
            micro_batch=self.micro_batch,
            tried_memory=self.tried_memory,
            activation_checkpointing=None if self.micro_batch is None else self.activation_checkpointing,
            flops=self.flops,
            stopped_by=self.stopped_by,
            validation_s=round(self.validation_s, 4),
        )

    def _current_step_s(self) -> float:
        """Return the seconds per step since the last spend, as if its steps ended now."""
        if self._last_spend is None:
            return 0.0
        began_at, steps = self._last_spend
        return (self.seconds - began_at) / steps

    def _limit_hit(self, steps: int, examples: int, tokens: int) -> str | None:
        """Return the name of the first limit that this much work would exceed."""
        limits = self.limits
        if limits.steps and self.steps + steps > limits.steps:
            return "steps"
        if limits.epochs and self.examples + examples > limits.epochs * self.train_size:
            return "epochs"
        if limits.tokens and self.tokens + tokens > limits.tokens:
            return "tokens"
        # Only new work can come too late, because tokens are counted after a step. A step cannot be interrupted, so it
        # begins only if there is time for one as slow as the slowest of the recent steps.
        expected_s = steps * max((self._current_step_s(), *self._recent_step_s)) if steps else 0.0
        if limits.seconds and (steps or examples) and self.seconds + expected_s > limits.seconds:
            return "seconds"
        return None
