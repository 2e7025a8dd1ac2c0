"""The metric similarity: cosines of an encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import tiny_encoder

from bench.method import LM
from bench.model_metrics.similarity import POOLING_FILE, read_pool, similarities


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> LM:
    lm: LM = tiny_encoder(tmp_path_factory.mktemp("models") / "encoder").load()
    return lm


def test_similarities_equal_texts_are_one_and_others_less(encoder: LM) -> None:
    same, other = similarities(encoder, "mean", ["a red house", "a red house"], [["a red house"], ["zzz 9"]])
    assert same == pytest.approx(1.0, abs=1e-5)
    assert 0.0 <= other < 0.999


def test_similarities_take_the_nearest_reference(encoder: LM) -> None:
    (value,) = similarities(encoder, "mean", ["서울역"], [["zzz 9", "서울역"]])
    assert value == pytest.approx(1.0, abs=1e-5)


def test_similarities_do_not_depend_on_the_other_answers(encoder: LM) -> None:
    alone = similarities(encoder, "first", ["abc"], [["a much longer text than that"]])
    together = similarities(encoder, "first", ["abc", "x"], [["a much longer text than that"], ["y"]])
    assert together[0] == pytest.approx(alone[0], abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "references", "value"),
    [("", ["red"], 0.0), (" ", ["", "red"], 1.0), ("red", [""], 0.0), ("", [""], 1.0)],
)
def test_similarities_empty_texts_have_no_meaning(
    encoder: LM, answer: str, references: list[str], value: float
) -> None:
    assert similarities(encoder, "mean", [answer], [references]) == [value]


@pytest.mark.parametrize(
    ("settings", "pool"),
    [
        (None, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
    ],
)
def test_read_pool_is_that_of_sentence_transformers(
    settings: dict[str, bool] | None, pool: str, tmp_path: Path
) -> None:
    if settings is not None:
        (tmp_path / POOLING_FILE).parent.mkdir()
        (tmp_path / POOLING_FILE).write_text(json.dumps(settings), "utf-8")
    assert read_pool(tmp_path) == pool
