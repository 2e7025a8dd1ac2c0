"""Control for closed labels: logistic regression on TF-IDF of character n-grams."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import PositiveFloat, PositiveInt

from bench.method import LM, Base, Budget, Method, TrainingData, Unsupported, param
from bench.records import save_numbers


@dataclass
class Tfidf(Method):
    """The score of a classifier that sees only the letters of a question."""

    control: ClassVar[bool] = True
    closed_only: ClassVar[bool] = True
    preload_modules: ClassVar[tuple[str, ...]] = ("sklearn.feature_extraction.text", "sklearn.linear_model")
    export_template = "tfidf"

    longest: PositiveInt = param(4, help="characters in the longest n-gram", search=(2, 5))
    c: PositiveFloat = param(10.0, help="inverse strength of the L2 penalty", search=(0.1, 100.0), log=True)

    def load(self, base: Base) -> None:
        """Load nothing: no model is needed."""
        return None

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Fit the regression on TF-IDF vectors of the training questions."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        if data.labels is None:
            raise Unsupported("the task has open answers; use nearest")
        answers = [example.target for example in data.train]
        if len(set(answers)) == 1:
            raise Unsupported("all training examples have the same label; use majority")
        budget.spend(examples=len(answers))
        self.vectorizer_ = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, self.longest), sublinear_tf=True)
        vectors = self.vectorizer_.fit_transform(example.input for example in data.train)
        self.regression_: Any = LogisticRegression(C=self.c, max_iter=1000).fit(vectors, answers)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Return the most probable label."""
        return [str(label) for label in self.regression_.predict(self.vectorizer_.transform(inputs))]

    def save(self, folder: Path) -> None:
        """Save the n-grams, their weights, and the labels."""
        arrays = {"idf": self.vectorizer_.idf_, "weights": self.regression_.coef_, "bias": self.regression_.intercept_}
        save_numbers(folder / "regression.safetensors", arrays)
        names = {"ngrams": self.vectorizer_.get_feature_names_out().tolist(), "labels": list(self.regression_.classes_)}
        (folder / "regression.json").write_text(json.dumps(names, ensure_ascii=False), "utf-8")
