"""Control: the answer to the most similar training question (TF-IDF, character n-grams)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import PositiveInt

from bench.method import LM, Base, Budget, Method, TrainingData, param


@dataclass
class Nearest(Method):
    """Nearest neighbor by cosine similarity: the score of copying training answers."""

    control: ClassVar[bool] = True
    preload_modules: ClassVar[tuple[str, ...]] = ("sklearn.feature_extraction.text",)
    export_template = "nearest"

    longest: PositiveInt = param(4, help="characters in the longest n-gram", search=(2, 5))

    def load(self, base: Base) -> None:
        """Load nothing: no model is needed."""
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Compute TF-IDF vectors of the training questions, from character n-grams within words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        budget.spend(examples=len(data.train))
        self.pairs_ = [(example.input, example.target) for example in data.train]
        self.vectorizer_ = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, self.longest), sublinear_tf=True)
        self.vectors_: Any = self.vectorizer_.fit_transform(question for question, _ in self.pairs_)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Return the answer of the nearest training question; ties go to the first in the data."""
        similarities = self.vectorizer_.transform(inputs) @ self.vectors_.T
        return [self.pairs_[index][1] for index in similarities.toarray().argmax(axis=1)]

    def save(self, folder: Path) -> None:
        """Save the questions and answers, from which the vectors can be computed again."""
        with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
            for question, answer in self.pairs_:
                file.write(json.dumps({"input": question, "target": answer}, ensure_ascii=False) + "\n")
