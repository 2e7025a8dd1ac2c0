"""The contract of a way to adapt a language model to a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self


class Unsupported(Exception):
    """What a method cannot do on this task or model, and why. A result shown in the table, not a crash."""


class BudgetExhausted(Exception):
    """Raised by a draw that would exceed the grant."""


class Example(Protocol):
    """One row of a task."""

    @property
    def id(self) -> str: ...
    @property
    def input(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def rationale(self) -> str | None:
        """A worked solution, if there is one."""

    @property
    def rejected(self) -> str | None:
        """An answer that is not wanted, if one is known."""


class TrainingData(Protocol):
    """The task without its exam: what a method may learn from."""

    @property
    def train(self) -> Sequence[Example]: ...
    @property
    def validation(self) -> Sequence[Example]: ...
    @property
    def labels(self) -> Sequence[str] | None:
        """The closed set of answers; None where they are open."""

    @property
    def seed(self) -> int: ...
    @property
    def options(self) -> Sequence[str]:
        """What follows a prompt, for each label in their order; none where answers are open."""

    def prompt(self, input: str, shots: Sequence[Example] = (), *, with_rationale: bool = False) -> str:
        """The one template of the task, up to where the answer begins; `shots` are shown solved before it."""

    def completion(self, example: Example, *, with_rationale: bool = False) -> str:
        """What follows the prompt when the answer is right, without the end-of-sequence token.

        A `worked` one holds the example's rationale, on a line of its own, before the answer.
        """

    def trim(self, text: str) -> str:
        """An answer up to where the template ends it, without surrounding white space."""

    def final_answer(self, solution: str) -> str:
        """The answer at the end of a worked completion; empty where it broke off before."""


class Budget(Protocol):
    """What the run grants the method and holds it to."""

    micro_batch: int | None
    """Examples that go through the model at once; what trains writes it down."""
    flops: float | None
    """Floating-point operations of adapting; what trains writes them down."""
    estimated_bytes: int | None
    """Bytes that training is expected to add to what is held; what trains writes it down beforehand."""

    @property
    def batch(self) -> int:
        """Examples per optimizer step."""

    @property
    def planned_steps(self) -> int:
        """Optimizer steps that passes and steps allow; tokens or seconds may end training sooner."""

    def plan_steps(self, rows: int) -> int:
        """Optimizer steps where the training examples are packed into so many rows."""

    @property
    def steps(self) -> int:
        """Optimizer steps taken so far."""

    @property
    def tokens(self) -> int:
        """Tokens drawn so far."""

    @property
    def seconds(self) -> float:
        """Seconds on the clock so far."""

    def can_afford(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> bool:
        """Whether a draw of this size is still within the grant."""

    def spend(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> None:
        """Take from the grant before working; raises `BudgetExhausted`, and takes nothing, if it would exceed it."""

    def off_clock(self) -> AbstractContextManager[None]:
        """Seconds inside are not charged: for evaluation on the way."""


class LM(Protocol):
    """A loaded language model, its weights frozen; a method unfreezes what it trains."""

    model: Any
    tokenizer: Any
    token_usage: Any
    """Tokens in and out while answering: a `bench.loaded.Tally`."""

    @property
    def can_generate(self) -> bool:
        """Whether it continues text; an encoder only reads, and names a label."""

    def prepare(self, data: TrainingData) -> None:
        """Before training, with whatever the lesson's answers need; raises `Unsupported` where they are beyond it."""

    def loss(self, rows: Sequence[tuple[list[int], list[int]]]) -> Any:
        """Mean loss (nats) over what is learnt of `encode`d rows, with gradient."""

    def summed_loss(self, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
        """Summed loss (nats) over the labels to be learnt of a padded batch, per one of them or of `count`."""

    @property
    def context(self) -> int:
        """Positions available to prompt and answer together."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens an answer may take; 0 where it is read off and not written."""

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with a beginning-of-sequence token where the model's tokenizer uses one."""

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt and of the completion with its end token; of an encoder its label's place.

        A prompt that is too long loses its head; raises `UserError` where the completion alone is.
        """

    def generate(self, prompts: Sequence[str], *, temperature: float = 0.0, sample_index: int = 0) -> list[str]:
        """Continuations, one per prompt, in order: greedy, or the `draw`-th sample at a `temperature` above zero."""

    def loglikelihood(self, prompt: str, completions: Sequence[str]) -> list[float]:
        """Mean log-probability (nats per token) of each completion after the prompt, without its end token."""

    def choose_label(
        self, prompts: Sequence[str], completions: Sequence[str], prior: Sequence[float] = ()
    ) -> list[int]:
        """For each prompt the place of the completion that `rate` finds likeliest, less a `prior` for each of them."""

    def count_parameters(self) -> tuple[int, int]:
        """Parameters in the model, and those that are trained."""

    def evaluate_loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Mean loss (nats) and accuracy per completion token over `encode`d pairs."""


class Base(Protocol):
    """A base model that can be loaded, ready to answer under the run's decoding settings."""

    @property
    def dtype(self) -> str:
        """`float32`, `bfloat16` or `float16`: what weights are held and computed in, unless a method says otherwise."""

    def load(self, **from_pretrained_kwargs: Any) -> LM:
        """Load it; `how` goes to `from_pretrained` (quantization, say)."""


def param(default: Any, *, help: str, search: tuple[Any, ...] | None = None, log: bool = False) -> Any:
    """A hyper-parameter: its default, what it does, and the range (low, high) or the choices it may be tuned over."""
    return dataclasses.field(default=default, metadata={"help": help, "search": search, "log": log})


@dataclass
class Method:
    """A way of adapting. Fields are hyper-parameters and nothing else; what `fit` learns ends in an underscore."""

    control: ClassVar[bool] = False
    """True for what others have to beat; those that ship join every comparison."""

    negative_control: ClassVar[bool] = False
    """True for a control that shows what learning nothing looks like: it joins when asked for, and is never advised."""

    closed_only: ClassVar[bool] = False
    """True for a control that joins only where the task names its labels."""

    supports_ddp: ClassVar[bool] = False
    """True if several processes can fit it together, each on a part of every step."""

    preload_modules: ClassVar[tuple[str, ...]] = ()
    """Modules imported before the clock starts, so that importing is a phase of its own."""

    @property
    def export_template(self) -> str | None:
        """Template in `bench/export/templates` that answers with plain libraries from what `save` writes, if any."""
        return None

    def load(self, base: Base) -> LM | None:
        """The model to adapt; `None` where no model is needed."""
        return base.load()

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Learn from the lesson within the budget, forgetting any earlier fit; `lm` is what `load` gave.

        Raises `Unsupported` for what cannot be done; drawing more than there is raises `BudgetExhausted`.
        """
        raise NotImplementedError

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """One answer per input (a question, not a prompt), in order; the harness trims and scores them."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write what a user would deploy into an existing, empty folder."""
        raise NotImplementedError


ProgressCallback = Callable[[dict[str, Any]], None]
"""Receives what is going on in a run, for progress displays; never answers."""
