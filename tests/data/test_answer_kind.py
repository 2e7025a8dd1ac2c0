"""Kinds of answers, and the main metric of a task that is made from rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.data import readers
from bench.data.answer_kind import AnswerKind, find_answer_kind
from bench.data.task_builder import TaskDraft, build_task

REPLIES = [
    "We have refunded order {n}. The amount reaches your account within three working days.",
    "주문 {n}번은 오늘 발송되었습니다. 배송 조회는 마이페이지에서 확인하실 수 있으니 참고 부탁드립니다.",
]
JSON = '{"order": N, "status": "sent", "items": [1, 2, 3], "note": "a long note of many words"}'
JAPANESE = "これは返品についてのご案内です。商品到着後七日以内にご連絡いただければ、無料で交換いたします。"


def answers(texts: list[str]) -> Counter[str]:
    return Counter(texts)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["배송", "환불", "교환"] * 20, "labels"),
        ([f"{n},{n:03}" for n in range(1, 60)], "numbers"),
        ([f"{n}.5" for n in range(60)], "numbers"),
        ([f"0{n}-123" for n in range(60)], "short answers"),
        ([f"Paris {n}" for n in range(60)], "short answers"),
        ([JSON.replace("N", str(n)) for n in range(60)], "JSON"),
        ([REPLIES[0].format(n=n) for n in range(60)], "texts"),
        ([REPLIES[1].format(n=n) for n in range(60)], "texts"),
        ([JAPANESE + str(n) for n in range(60)], "texts"),
    ],
)
def test_find_answer_kind_of_typical_answers(texts: list[str], kind: AnswerKind) -> None:
    assert find_answer_kind(answers(texts)) == kind


def test_find_answer_kind_rare_exceptions_do_not_change_it() -> None:
    numbers = [str(n) for n in range(99)]
    assert find_answer_kind(answers([*numbers, "none"])) == "numbers"
    assert find_answer_kind(answers([*numbers, *["not known"] * 20])) == "short answers"


def draft_of(tmp_path: Path, texts: list[str]) -> TaskDraft:
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\n" + "".join(f"Q{n},{text}\n" for n, text in enumerate(texts)), "utf-8")
    return build_task(readers.read_source(str(file)), "mine", len)


def test_build_task_free_replies_are_scored_by_f1_and_say_why(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, [REPLIES[0].format(n=n) for n in range(60)])
    assert draft.card["metric"] == "f1"
    (note,) = [note for note in draft.notes if note.startswith("main metric")]
    assert "exact match would call nearly every one wrong" in note


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["yes", "no"] * 30, "(accuracy), with macro-f1 beside it"),
        (["yes"] * 49 + ["no"] * 11, "(accuracy), with macro-f1 beside it"),
        ([str(n) for n in range(60)], "by value"),
        ([f"Paris {n}" for n in range(60)], "short answers"),
    ],
)
def test_build_task_other_answers_are_scored_by_em_and_say_why(tmp_path: Path, texts: list[str], reason: str) -> None:
    draft = draft_of(tmp_path, texts)
    assert draft.card["metric"] == "em"
    assert any(note.startswith("main metric em") and reason in note for note in draft.notes)


def test_build_task_strongly_imbalanced_labels_are_scored_by_macro_f1_and_say_why(tmp_path: Path) -> None:
    draft = draft_of(tmp_path, ["정상"] * 54 + ["불량"] * 6)
    assert draft.card["metric"] == "macro-f1"
    (note,) = [note for note in draft.notes if note.startswith("main metric")]
    assert "has 9 times as many rows as the rarest" in note
