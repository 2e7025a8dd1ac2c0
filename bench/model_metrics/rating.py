"""Ratings of all answers of a run by the models that its task names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.i18n import Message
from bench.metrics import JUDGE, SIMILARITY, split_model_metric
from bench.model_metrics import judge, similarity
from bench.modeling import checkpoint, prompt_format
from bench.records import Decoding, MetricModel, PromptSpec, Sample
from bench.task_card import TaskCard

_UNUSED = Decoding(max_new_tokens=1, stop=())
"""Settings of generation; models of metrics generate nothing."""


@dataclass(frozen=True)
class Rating:
    """Scores of one metric."""

    scores: tuple[float, ...]
    """Of each answer, from 0 to 1."""
    report: dict[str, float]
    """Seconds of loading and rating, and what says how far the scores can be trusted, by name."""


def find_metric_models(card: TaskCard, folder: Path) -> dict[str, MetricModel] | None:
    """Return the models of the metrics that a card names, by metric; None if there are none.

    Args:
        card: Card of the task.
        folder: Folder of the task; names of models that begin with a dot are relative to it.

    Raises:
        UserError: A model is missing, cannot be used, or is none of the kind that the metric needs.
    """
    models: dict[str, MetricModel] = {}
    for kind, ref in _model_metrics(card):
        location = str(folder / "task.yaml")
        if kind in models:
            raise UserError(
                Message("the metric '{metric}' is named twice", metric=kind),
                location=location,
                hint=Message("keep one of them"),
            )
        path = registry.find_model(str(folder / ref) if ref.startswith(".") else ref)
        checkpoint.check_model_folder(path)
        if checkpoint.is_decoder(path) != (kind == JUDGE):
            raise UserError(
                Message("the metric '{metric}' cannot use the model '{model}'", metric=kind, model=ref),
                location=location,
                hint=Message("judge needs a model that generates text, similarity an encoder"),
            )
        prompt_format.choose_chat_template("auto", path)  # a template that fails is reported now
        models[kind] = MetricModel(
            ref=str(path) if ref.startswith(".") else ref,
            sha256=checkpoint.weights_digest(path),
            rubric_sha256=judge.rubric_digest() if kind == JUDGE else None,
        )
    return models or None


def rate_answers(
    models: Mapping[str, MetricModel], device: str, answered: Sequence[tuple[Sequence[str], Sequence[Sample]]]
) -> list[dict[str, Rating]]:
    """Load the model of each metric once and rate all answers of a run.

    Args:
        models: Models by metric, as `find_metric_models` returns them.
        device: Torch's name of the device.
        answered: Questions and answers of each split. The part of an answer that exact match compares is rated.

    Returns:
        Ratings of each split by metric; the seconds of loading are those of the first one.

    Raises:
        RuntimeError: A model was changed after the run was planned.
    """
    ratings: list[dict[str, Rating]] = [{} for _ in answered]
    for metric, model in models.items():
        start = perf_counter()
        folder = _unchanged_folder(metric, model)
        lm = _load(folder, device)
        rate = _rate_similarity if metric == SIMILARITY else _rate_by_judge
        for split_ratings, (questions, samples) in zip(ratings, answered, strict=True):
            rating = rate(folder, lm, questions, samples)
            seconds, start = perf_counter() - start, perf_counter()
            split_ratings[metric] = replace(rating, report={"seconds": round(seconds, 3)} | rating.report)
    return ratings


def _unchanged_folder(metric: str, model: MetricModel) -> Path:
    folder = registry.find_model(model.ref)
    if checkpoint.weights_digest(folder) != model.sha256:
        raise RuntimeError(f"the model of the metric {metric} was changed after the run was planned; run it again")
    return folder


def _load(folder: Path, device: str) -> Any:
    """Load a model, with its chat template if it has one."""
    chat = prompt_format.choose_chat_template("auto", folder)
    prompt = PromptSpec(format="plain" if chat is None else "chat")
    return checkpoint.Checkpoint(folder, "float32", device, _UNUSED, prompt).load()


def _rate_similarity(folder: Path, encoder: Any, questions: Sequence[str], samples: Sequence[Sample]) -> Rating:
    pool = similarity.read_pool(checkpoint.base_model_folder(folder))
    answers, references = _answers_and_references(samples)
    return Rating(tuple(similarity.similarities(encoder, pool, answers, references)), {})


def _rate_by_judge(folder: Path, model: Any, questions: Sequence[str], samples: Sequence[Sample]) -> Rating:
    judged = judge.judge_answers(model, questions, *_answers_and_references(samples))
    report = {"consistency": judged.consistency}
    if all("em" in sample.scores for sample in samples):
        pairs = zip(judged.scores, samples, strict=True)
        report["agreement_with_em"] = fmean((score == 1.0) == (sample.scores["em"] == 1.0) for score, sample in pairs)
    return Rating(judged.scores, report)


def _answers_and_references(samples: Sequence[Sample]) -> tuple[list[str], list[Sequence[str]]]:
    return [sample.answer or "" for sample in samples], [sample.references for sample in samples]


def _model_metrics(card: TaskCard) -> Iterator[tuple[str, str]]:
    """Yield kind and model of the metrics that need a model."""
    for name in card.named_metrics:
        if (parts := split_model_metric(name)) is not None:
            yield parts
