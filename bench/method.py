"""The interface of a method: a way of adapting a language model to a task.

A method derives from `Method`. It gets the other classes of this module as arguments: `Base` in `load`; `LM`,
`TrainingData` and `Budget` in `fit`. `bench.testing.check_method` tests that a method keeps the interface.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypedDict


class Unsupported(Exception):
    """A method cannot handle this task or model; the message says why.

    The result table shows the message. The run counts as unsupported, not as failed.
    """


class Diverged(Exception):
    """Training diverged: a loss or weight is NaN or infinite, so the answers would be useless.

    The run has the status `diverged` and no scores, and is never recommended. It counts as finished, not as failed.

    Args:
        step: Optimizer steps done by then.
        quantity: The number that is not finite.
    """

    def __init__(self, step: int, quantity: str = "the training loss") -> None:
        advice = "a smaller learning rate may help" if step else "the model cannot be trained as it is"
        super().__init__(f"{quantity} is not finite at step {step}; {advice}")
        self.step = step


class BudgetExhausted(Exception):
    """Raised by `Budget.spend` if the budget does not allow the requested amount."""


class Example(Protocol):
    """One row of a task."""

    @property
    def id(self) -> str:
        """Identifier of the row, unique within the task."""

    @property
    def input(self) -> str:
        """The question, without the prompt template."""

    @property
    def target(self) -> str:
        """The correct answer to learn; the first one if several are accepted."""

    @property
    def rationale(self) -> str | None:
        """Reasoning steps that lead to the answer; None if the task has none."""

    @property
    def rejected(self) -> str | None:
        """A wrong answer for preference training; None if the task has none."""


class TrainingData(Protocol):
    """The part of a task that a method may learn from; it contains no test rows."""

    @property
    def train(self) -> Sequence[Example]:
        """Training examples, at most as many as the budget allows."""

    @property
    def validation(self) -> Sequence[Example]:
        """Validation examples, e.g. for early stopping."""

    @property
    def labels(self) -> Sequence[str] | None:
        """All possible answers of a task with closed labels; None for open answers."""

    @property
    def seed(self) -> int:
        """Seed of the run. Use it for every random choice, so that a run can be repeated."""

    @property
    def options(self) -> Sequence[str]:
        """The completion of each label, in the order of `labels`; empty for open answers."""

    def prompt(self, input: str, shots: Sequence[Example] = (), *, with_rationale: bool = False) -> str:
        """Return the text that the model completes with the answer.

        Args:
            input: The question.
            shots: Solved examples that stand before the question.
            with_rationale: Show the rationale of each shot before its answer; each of them must have one.
        """

    def completion(self, example: Example, *, with_rationale: bool = False) -> str:
        r"""Return the text after the prompt for a correct answer, without end-of-sequence token.

        Args:
            example: The example with the answer.
            with_rationale: Put the rationale before the answer, on one line, followed by `\n`.
        """

    def trim(self, text: str) -> str:
        """Return generated text up to the end of the answer, stripped.

        The answer of a plain prompt ends where the text after `{target}` in the task's template begins. The answer of
        a chat is the whole turn. In both, the texts of `stop` in the task's card end it.
        """

    def score(self, answer: str, example: Example) -> float:
        """Return the score of an answer by the main metric of the task, from 0 to 1.

        Args:
            answer: Raw answer, as `Method.predict` returns it.
            example: The example with the question, of `validation` for example.
        """

    def final_answer(self, solution: str) -> str:
        """Return the answer after the rationale of a generated completion.

        Args:
            solution: Text that the model generated after a prompt whose shots have rationales.

        Returns:
            The last line; empty if the text has only one line, because it was cut off before the answer.
        """


class Budget(Protocol):
    """The limits of a run and what the method has used of them.

    A method calls `spend` before each step of its work. The attributes `micro_batch`, `activation_checkpointing`,
    `flops`, `estimated_bytes`, `tried_memory` and `stopped_by` are set by the training loop, for the record.
    """

    micro_batch: int | None
    """Examples in one forward pass; None if nothing was trained."""
    activation_checkpointing: bool
    """True if layers kept only their inputs and were computed again, because a step did not fit otherwise."""
    flops: float | None
    """Floating-point operations of the training; None if not counted."""
    estimated_bytes: int | None
    """Estimated peak of the memory that training adds; None if not estimated."""
    tried_memory: bool | None
    """True if a step was tried to find `micro_batch`, False if its estimate left room; None if neither was done."""
    must_try_memory: bool
    """True if a step must be tried, because an estimate that left room was wrong."""
    stopped_by: str | None
    """Name of the limit that ended training, or `patience`; None if the method ended by itself."""

    @property
    def batch(self) -> int:
        """Examples per optimizer step."""

    @property
    def planned_steps(self) -> int:
        """Optimizer steps allowed by the limits on epochs and steps.

        Limits on tokens or seconds may stop training earlier.
        """

    def plan_steps(self, rows: int) -> int:
        """Return `planned_steps` for examples that are packed into another number of rows.

        Args:
            rows: Rows of one epoch.
        """

    @property
    def has_time_limit(self) -> bool:
        """True if a limit on seconds may end training after any step."""

    def limit_tokens(self, tokens: float) -> float:
        """Return a number of tokens, or their limit if it is smaller."""

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""

    @property
    def tokens(self) -> int:
        """Tokens so far."""

    @property
    def seconds(self) -> float:
        """Seconds so far, without those inside `off_clock`."""

    def can_afford(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> bool:
        """Return True if the budget allows these amounts in addition to those already spent.

        Args:
            steps: Optimizer steps.
            examples: Training examples; an example that is read again counts again.
            tokens: Tokens that go through the model.
        """

    def spend(self, *, steps: int = 0, examples: int = 0, tokens: int = 0) -> None:
        """Record these amounts; call it before the work, with arguments as in `can_afford`.

        Raises:
            BudgetExhausted: The budget does not allow them. Nothing is recorded.
        """

    def off_clock(self) -> AbstractContextManager[None]:
        """Return a context manager that stops the clock, e.g. for evaluation during training."""

    def validation(self, *, on_clock: bool) -> AbstractContextManager[None]:
        """Return a context manager for measuring the validation loss, whose seconds are recorded.

        Args:
            on_clock: Count the seconds as training. Use it if the loss decides what training gives.
        """


class LM(Protocol):
    """A loaded language model with frozen weights; a method unfreezes the weights it trains."""

    model: Any
    """The model of transformers; a method may replace it, e.g. by a `PeftModel`."""
    tokenizer: Any
    """The tokenizer of transformers."""
    token_usage: Any
    """Numbers of prompt and answer tokens so far, a `bench.modeling.loaded_model.TokenUsage`."""

    @property
    def can_generate(self) -> bool:
        """True for a decoder; False for an encoder, which can only choose a label."""

    def prepare(self, data: TrainingData) -> None:
        """Add what training on this task needs: for an encoder, a new classification layer.

        Raises:
            Unsupported: The model is an encoder and the task has open answers.
        """

    def loss(self, rows: Sequence[tuple[list[int], list[int]]]) -> Any:
        """Return the mean loss per target token, with gradient.

        Args:
            rows: Token ids of prompts and completions, as `encode` returns them. Only completions are targets.

        Returns:
            A scalar tensor, in nats.
        """

    def summed_loss(self, input_ids: Any, attention_mask: Any, labels: Any, count: Any = None) -> Any:
        """Return the loss summed over the targets of a padded batch and divided by a count.

        Args:
            input_ids: Token ids, tensor (rows, positions).
            attention_mask: 1 for real tokens and 0 for padding, tensor (rows, positions).
            labels: Targets, -100 where there is none, tensor (rows, positions).
            count: Divisor, e.g. the targets of all micro-batches of a step; None for the targets of this batch.

        Returns:
            A scalar tensor, in nats, with gradient.

        Raises:
            Unsupported: The model is an encoder.
        """

    @property
    def context(self) -> int:
        """Positions for prompt and answer together, without those that an adapter adds."""

    @property
    def max_new_tokens(self) -> int:
        """Maximum tokens of an answer; 0 for an encoder."""

    @property
    def padding_side(self) -> Literal["right", "left"] | None:
        """Side on which `model_inputs` pads; None if padding would change other states."""

    def model_inputs(self, rows: Sequence[list[int]]) -> dict[str, Any]:
        """Return encoded rows as arguments of the model, padded to the longest of them.

        Args:
            rows: Token ids; all of the same length if `padding_side` is None.
        """

    def length_batches(self, lengths: Sequence[int], size: int) -> Iterator[Sequence[int]]:
        """Yield the indices of rows that `model_inputs` may take together, shortest first.

        Args:
            lengths: Tokens of each row.
            size: Maximum rows of a batch.
        """

    def tokens(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt, with the special tokens that the tokenizer adds."""

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Return the token ids of a prompt and of its completion.

        A prompt that is too long is truncated at its start.

        Returns:
            Token ids of the prompt; token ids of the completion with end-of-sequence token. For an encoder the
            second list holds the index of the label, or nothing if the completion is empty.

        Raises:
            UserError: The completion alone is longer than the context.
        """

    def generate(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        sample_index: int = 0,
        with_rationale: bool = False,
    ) -> list[str]:
        """Return one continuation per prompt, in order; for an encoder the most likely label.

        Args:
            prompts: Texts to continue.
            temperature: Temperature of sampling; 0 for greedy decoding.
            sample_index: Number of the sample. Different numbers give independent samples, the same number the
                same sample.
            with_rationale: The model writes reasoning steps on one line before the answer. It makes a difference only
                if answers are constrained (`--decoding constrained`): the answer alone is.

        Raises:
            Unsupported: The model is an encoder and `prepare` was not called.
        """

    def loglikelihood(self, prompt: str, completions: Sequence[str]) -> list[float]:
        """Return the mean log-probability per token of each completion, in nats.

        The end-of-sequence token is not included.

        Raises:
            Unsupported: The model is an encoder.
        """

    def loglikelihoods(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        """Return `loglikelihood` of the same completions for each of several prompts.

        Raises:
            Unsupported: The model is an encoder.
        """

    def choose_label(
        self, prompts: Sequence[str], completions: Sequence[str], prior: Sequence[float] = ()
    ) -> list[int]:
        """Return the index of the most likely completion for each prompt.

        Args:
            prompts: Texts before the label.
            completions: One completion per label, e.g. `TrainingData.options`.
            prior: One value per completion, in nats per token, that is subtracted from `loglikelihood`; empty for
                none.

        Raises:
            Unsupported: The model is an encoder.
        """

    def count_parameters(self) -> tuple[int, int]:
        """Return the number of all parameters and of those that require a gradient."""

    def evaluate_loss(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[float, float]:
        """Return mean loss (nats) and accuracy over the completion tokens, in evaluation mode.

        Args:
            pairs: Token ids of prompts and completions, as `encode` returns them.
        """


class Base(Protocol):
    """A base model on disk and the decoding settings of the run."""

    @property
    def dtype(self) -> str:
        """Data type of weights and computation: `float32`, `bfloat16` or `float16`."""

    @property
    def device(self) -> str:
        """Name of the torch device that the model is loaded onto, such as `cpu` or `cuda:1`."""

    @property
    def quantization(self) -> str | None:
        """Quantization of the stored weights: `bitsandbytes`, `gptq`, `awq`; None without one."""

    def load(self, **from_pretrained_kwargs: Any) -> LM:
        """Load the model with frozen weights.

        Args:
            **from_pretrained_kwargs: Arguments for `from_pretrained` of transformers, e.g. `quantization_config`.
        """


def param(default: Any, *, help: str, search: tuple[Any, ...] | None = None, log: bool = False) -> Any:
    """Define a hyper-parameter as a dataclass field.

    Args:
        default: Default value.
        help: Description in a few words.
        search: For tuning: range `(low, high)` of a number, or all choices; None if it is not tuned.
        log: True if the range is searched on a logarithmic scale.
    """
    return dataclasses.field(default=default, metadata={"help": help, "search": search, "log": log})


@dataclass
class Method:
    """Base class of all methods.

    A method is a dataclass whose fields are its hyper-parameters, each with a default. `__init__` does no work.
    Attributes that `fit` sets end in an underscore, as in scikit-learn. If `fit` sets `fit_report_`, a dict of texts,
    numbers and truth values by name, the record and the report show it: what the method chose, and by which scores.
    """

    control: ClassVar[bool] = False
    """True for a simple baseline that other methods have to beat.

    Shipped ones are added to every comparison.
    """

    negative_control: ClassVar[bool] = False
    """True for a baseline that cannot learn the task, e.g. from shuffled labels.

    It runs only if it is named and is never recommended.
    """

    closed_only: ClassVar[bool] = False
    """True for a `control` that is added only to comparisons on tasks with closed labels."""

    changes_base_weights: ClassVar[bool] = False
    """True if training changes weights of the base model; such a method is unsupported on quantized weights."""

    supports_ddp: ClassVar[bool] = False
    """True if several processes can run `fit` together, each with a part of every batch."""

    trains_weights: ClassVar[bool] = True
    """False if `fit` leaves the weights of the loaded model as they are, as prompting does.

    The loss on general text is then not measured, because it cannot change.
    """

    preload_modules: ClassVar[tuple[str, ...]] = ()
    """Modules imported before the clock starts, so that importing does not count as training time."""

    @property
    def export_template(self) -> str | None:
        """Template in `bench/export/templates` for a script that answers from the files of `save`.

        `prompted` stands for `choose_label` on closed labels and `generate` on open answers. None if there is no
        template.
        """
        return None

    def load(self, base: Base) -> LM | None:
        """Return the loaded model; None if the method needs no model."""
        return base.load()

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Learn from the training data; a second call discards what the first has learned.

        Args:
            lm: The result of `load`.
            data: Training and validation examples, and the prompt template.
            budget: Limits of the run.

        Returns:
            The method itself.

        Raises:
            Unsupported: The method cannot handle this task or model.
            BudgetExhausted: The method spends more than the budget allows.
        """
        raise NotImplementedError

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Return one answer per question, in the same order.

        Args:
            inputs: Questions without the prompt template.

        Returns:
            Raw answers; the caller trims them with `TrainingData.trim` and scores them.
        """
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the files a user would deploy.

        Args:
            folder: An existing, empty folder.
        """
        raise NotImplementedError


class ProgressState(TypedDict, total=False):
    """State of a run in progress, for display; an event holds only the keys that have changed."""

    phase: str
    step: int
    steps: int
    """Planned optimizer steps; tokens or seconds may end training sooner."""
    tokens: int
    spent_s: float
    """Seconds of training so far."""
    granted_s: float | None
    """Seconds that the budget allows; None without a limit."""
    trial: int
    """Number of the tuning trial, from 1."""
    node: str
    """Node of the cluster that the run is on."""
    expected_s: tuple[float, float, float] | None
    """Seconds that the whole run is expected to take, at least, and at most; None if not known."""


ProgressCallback = Callable[[ProgressState], None]
"""Receives progress events of a run, for display; its result is ignored."""
