"""Control: the most frequent training answer for every question."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from bench.method import LM, Base, Budget, Method, TrainingData


@dataclass
class Majority(Method):
    """The score of a method that ignores the question."""

    control: ClassVar[bool] = True
    export_template = "majority"

    def load(self, base: Base) -> None:
        """Load nothing: no model is needed."""
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Count the answers; of equally frequent answers the first one in the data wins."""
        budget.spend(examples=len(data.train))
        self.answer_ = Counter(example.target for example in data.train).most_common(1)[0][0]
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Return the most frequent answer for every question."""
        return [self.answer_] * len(inputs)

    def save(self, folder: Path) -> None:
        """Save the answer."""
        (folder / "answer.json").write_text(json.dumps({"answer": self.answer_}, ensure_ascii=False), "utf-8")
