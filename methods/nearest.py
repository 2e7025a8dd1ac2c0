"""Control: the answer to the most similar training question, by character n-grams (TF-IDF)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import PositiveInt

from bench.method import LM, Base, Budget, Method, TrainingData, param


@dataclass
class Nearest(Method):
    """What copying from the training data earns: TF-IDF over character n-grams within words, cosine similarity."""

    control: ClassVar[bool] = True
    preload_modules: ClassVar[tuple[str, ...]] = ("sklearn.feature_extraction.text",)
    export_template = "nearest"

    longest: PositiveInt = param(4, help="characters in the longest n-gram", search=(2, 5))

    def load(self, base: Base) -> None:
        """Needs no model."""
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Weigh the n-grams of the training questions."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        budget.spend(examples=len(data.train))
        self.pairs_ = [(example.input, example.target) for example in data.train]
        self.vectorizer_ = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, self.longest), sublinear_tf=True)
        self.vectors_: Any = self.vectorizer_.fit_transform(question for question, _ in self.pairs_)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """The nearest neighbour's answer; of equally near ones the first in the data wins."""
        nearest = (self.vectorizer_.transform(inputs) @ self.vectors_.T).toarray().argmax(axis=1)
        return [self.pairs_[place][1] for place in nearest]

    def save(self, folder: Path) -> None:
        """Save the questions and answers; the vectors follow from them."""
        with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
            for question, answer in self.pairs_:
                file.write(json.dumps({"input": question, "target": answer}, ensure_ascii=False) + "\n")
