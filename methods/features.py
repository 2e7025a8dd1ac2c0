"""Frozen features: logistic regression or nearest neighbors on the base's hidden states."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from bench.method import LM, Budget, Method, TrainingData, Unsupported, param
from bench.modeling.hidden_states import BATCH_SIZE, Pool, extract_features
from bench.records import save_numbers, save_prompt

MAX_FOLDS = 5
REGULARIZATION_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of `C` of logistic regression among which cross-validation chooses."""
DEFAULT_C = 1e-2

PoolSetting = Literal["auto", "last", "mean"]
POOL_HELP = "token of the prompt: last, or mean of all; auto: last of a decoder, mean of an encoder"


@dataclass
class Features(Method):
    """Probing (arXiv:1610.01644): regression on closed labels, neighbors on open answers."""

    trains_weights: ClassVar[bool] = False
    preload_modules: ClassVar[tuple[str, ...]] = (
        "bench.modeling.causal_lm",
        "bench.measurement.flops",
        "sklearn.linear_model",
        "sklearn.model_selection",
    )
    export_template = "linear_probe"

    layer: Annotated[float, Field(ge=0, le=1)] = param(
        1.0, help="layer of the hidden states as a fraction of the depth", search=(0.5, 0.7, 1.0)
    )
    pool: PoolSetting = param("auto", help=POOL_HELP, search=("last", "mean"))
    k: PositiveInt = param(1, help="neighbors that vote on an open answer", search=(1, 5, 15))

    def fit(self, lm: LM, data: TrainingData, budget: Budget) -> Self:
        """Compute features of as many training questions as the budget allows, and fit on them."""
        self.lm_, self.data_ = lm, data
        self.pool_ = choose_pool(lm, self.pool)
        features, answers = self._training_features(budget)
        if data.labels is not None and len(set(answers)) > 1:
            self.voters_ = 1
            self.mean_, self.scale_, self.weights_, self.bias_, self.answers_ = fit_regression(
                features, answers, data.seed
            )
        else:
            self.voters_, self.answers_ = self.k, answers
            self.mean_, self.scale_, self.weights_, self.bias_ = fit_neighbors(features)
        return self

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Return the highest-scoring label, or the most frequent answer of the neighbors.

        Of equally frequent answers the one of the nearer neighbor wins.
        """
        rows = encode_prompts(self.lm_, [self.data_.prompt(text) for text in inputs])
        features = extract_features(self.lm_, rows, layer=self.layer, pool=self.pool_).numpy()
        scores = (features - self.mean_) / self.scale_ @ self.weights_.T + self.bias_
        best = (-scores).argsort(axis=1, kind="stable")[:, : self.voters_]
        return [Counter(self.answers_[index] for index in row).most_common(1)[0][0] for row in best]

    def save(self, folder: Path) -> None:
        """Save the weights, the answer of each row of them, the settings, and the prompt."""
        arrays = {"mean": self.mean_, "scale": self.scale_, "weights": self.weights_, "bias": self.bias_}
        save_numbers(folder / "reader.safetensors", arrays)
        settings = {"layer": self.layer, "pool": self.pool_, "voters": self.voters_, "answers": self.answers_}
        (folder / "reader.json").write_text(json.dumps(settings, ensure_ascii=False, indent=1), "utf-8")
        save_prompt(folder, self.data_.prompt("{input}"))

    def _training_features(self, budget: Budget) -> tuple[Any, list[str]]:
        """Return features (examples, width) and answers of the training examples.

        The order is random, so the examples that a budget allows are a random sample.
        """
        import numpy

        from bench.measurement.flops import FlopCounter

        train = random.Random(self.data_.seed).sample(list(self.data_.train), len(self.data_.train))
        features: list[Any] = []
        answers: list[str] = []
        flop_counter = FlopCounter()
        for start in range(0, len(train), BATCH_SIZE):
            batch = train[start : start + BATCH_SIZE]
            rows = [self.lm_.encode(self.data_.prompt(example.input), "")[0] for example in batch]
            tokens = sum(map(len, rows))
            if not budget.can_afford(examples=len(batch), tokens=tokens):
                break
            budget.spend(examples=len(batch), tokens=tokens)
            batch_features = extract_features(
                self.lm_, rows, layer=self.layer, pool=self.pool_, flop_counter=flop_counter
            )
            features.append(batch_features.numpy())
            answers += [example.target for example in batch]
            budget.flops = flop_counter.scaled_to(budget.tokens)
        if not answers:
            raise Unsupported(f"the budget is too small for the first {len(batch)} examples")
        return numpy.concatenate(features), answers


def choose_pool(lm: LM, setting: PoolSetting) -> Pool:
    """Return the pooling; `auto` is last for a decoder and mean for an encoder.

    Only the last token of a decoder has read all others. Every token of an encoder has, and its last is a mark.
    """
    if setting == "auto":
        return "last" if lm.can_generate else "mean"
    return setting


def encode_prompts(lm: LM, prompts: Sequence[str]) -> list[list[int]]:
    """Return token ids of prompts, truncated and counted as by `lm.generate`."""
    rows = [lm.encode(prompt, "")[0] for prompt in prompts]
    usage = lm.token_usage
    usage.prompt_tokens += sum(map(len, rows))
    usage.longest_prompt_tokens = max(usage.longest_prompt_tokens, *map(len, rows))
    usage.truncated_prompts += sum(len(lm.tokens(prompt)) > len(row) for prompt, row in zip(prompts, rows, strict=True))
    return rows


def fit_regression(features: Any, answers: list[str], seed: int) -> tuple[Any, Any, Any, Any, list[str]]:
    """Fit a scaler and an L2 logistic regression, with `C` chosen by cross-validation.

    Scaler and regression are fitted together in every fold, so the rows of a fold never influence their own features.

    Args:
        features: Array (examples, width).
        answers: Label of each example; at least two different ones.
        seed: Seed of the folds.

    Returns:
        Mean and scale (width,), weights (labels, width), bias (labels,), and the labels.
    """
    import numpy
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline: Any = make_pipeline(StandardScaler(), LogisticRegression(C=DEFAULT_C, max_iter=1000))
    # The second most frequent label limits the folds: each of them must hold at least two labels.
    folds = min(MAX_FOLDS, Counter(answers).most_common(2)[1][1])
    if folds > 1:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(pipeline, {"logisticregression__C": REGULARIZATION_GRID}, cv=splitter)
        pipeline = search.fit(features, answers).best_estimator_
    else:
        pipeline.fit(features, answers)
    scaler, regression = pipeline[0], pipeline[1]
    weights, bias = regression.coef_, regression.intercept_
    if len(weights) == 1:  # for two labels scikit-learn stores only the row of the second
        weights, bias = numpy.concatenate([0 * weights, weights]), numpy.concatenate([0 * bias, bias])
    mean, scale, weights, bias = (array.astype(numpy.float32) for array in (scaler.mean_, scaler.scale_, weights, bias))
    return mean, scale, weights, bias, [str(label) for label in regression.classes_]


def fit_neighbors(features: Any) -> tuple[Any, Any, Any, Any]:
    """Return weights whose scores order the examples by cosine similarity.

    Args:
        features: Array (examples, width).

    Returns:
        Mean and scale (width,), weights (examples, width), and bias (examples,), which is zero.
    """
    import numpy
    from sklearn.preprocessing import StandardScaler, normalize

    scaler = StandardScaler().fit(features)
    weights = normalize(scaler.transform(features))
    arrays = (scaler.mean_, scaler.scale_, weights, numpy.zeros(len(weights)))
    mean, scale, weights, bias = (array.astype(numpy.float32) for array in arrays)
    return mean, scale, weights, bias
