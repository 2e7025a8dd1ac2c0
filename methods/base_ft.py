"""Base fine-tuning: pre-training goes on with the task's plain text; every token counts, not the answer alone."""

from dataclasses import dataclass

from pydantic import PositiveInt

from bench.method import Unsupported, param
from bench.training import Rows

from .full import Full


@dataclass
class BaseFT(Full):
    """Continued pre-training (https://arxiv.org/abs/2004.10964): all weights, on text packed into blocks."""

    block: PositiveInt = param(256, help="tokens of a block; never more than the context", search=(64, 1024), log=True)

    def training_rows(self) -> Rows:
        """All training examples as one text, each with its end token, cut into blocks; a short rest is a block too."""
        if not self.lm_.can_generate:
            raise Unsupported("an encoder does not read on, so pre-training cannot go on like this")
        told = [
            self.lm_.encode(self.data_.prompt(example.input), self.data_.completion(example))
            for example in self.data_.train
        ]
        text = [token for head, tail in told for token in head + tail]
        size = min(self.block, self.lm_.context)
        return [([], text[start : start + size]) for start in range(0, len(text) - 1, size)]
