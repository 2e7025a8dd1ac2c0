"""Base fine-tuning: continued pre-training on the task's text, with loss on every token."""

from dataclasses import dataclass

from pydantic import PositiveInt

from bench.method import Unsupported, param
from bench.training.gradient import Rows

from .full import Full


@dataclass
class BaseFT(Full):
    """Continued pre-training (arXiv:2004.10964) of all weights, on text packed into blocks."""

    block: PositiveInt = param(256, help="tokens per block, at most the context", search=(64, 1024), log=True)

    def training_rows(self) -> Rows:
        """Return the training examples as one text in blocks; the last block may be shorter.

        An end-of-sequence token follows each example.
        """
        if not self.lm_.can_generate:
            raise Unsupported("an encoder does not predict the next token, so it cannot be pre-trained like this")
        encoded = [
            self.lm_.encode(self.data_.prompt(example.input), self.data_.completion(example))
            for example in self.data_.train
        ]
        token_ids = [token for prompt, completion in encoded for token in prompt + completion]
        size = min(self.block, self.lm_.context)
        return [([], token_ids[start : start + size]) for start in range(0, len(token_ids) - 1, size)]
