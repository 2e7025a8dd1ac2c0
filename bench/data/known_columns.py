"""Names of columns that hold inputs and targets, in English and Korean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

EXACT_PAIRS = (("question", "answer"), ("prompt", "completion"), ("input", "target"), ("text", "label"))
"""Pairs that are chosen before all others, in this order."""
KINDS = (
    (
        "question questions query q "
        "질문 질문내용 질의 물음 문의 문의내용 문의사항 고객문의 고객질문 사용자질문 고객발화",
        "answer answers response reply a 답변 답변내용 답 응답 대답 정답 회신 회신내용 상담답변 모범답안 상담사발화",
    ),
    ("prompt 프롬프트", "completion response 완성 응답"),
    ("input source 입력 입력문 원문", "output target 출력 출력문 결과 번역 번역문 요약 요약문"),
    (
        "text sentence document content title review comment utterance message "
        "문장 텍스트 본문 내용 제목 글 리뷰 후기 댓글 발화 메시지",
        "label class category intent sentiment topic emotion tag "
        "라벨 레이블 분류 카테고리 유형 범주 의도 감정 감성 주제 구분 종류 태그 클래스",
    ),
)
"""Names of inputs and of targets that belong together, in the order of preference."""
_SHORT_NAMES = ("q", "a")
"""Names that mean question and answer only beside each other."""


def find_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of columns that may be input and target; one if there is no doubt.

    Names that belong together (질문, 답변) are preferred to others (질문, 분류).
    """
    for pair in EXACT_PAIRS:
        if {*pair} <= set(names):
            return [pair]
    for inputs, targets in KINDS:
        if pairs := _pairs(names, inputs.split(), targets.split()):
            return pairs
    all_inputs = {name for inputs, _ in KINDS for name in inputs.split()}.difference(_SHORT_NAMES)
    all_targets = {name for _, targets in KINDS for name in targets.split()}.difference(_SHORT_NAMES)
    return _pairs(names, all_inputs, all_targets)


def is_head(names: Sequence[str]) -> bool:
    """Tell if names of columns, and not values, stand in the cells of a row."""
    return bool(find_pairs(names)) or {"chosen", "rejected"} <= set(names) or {"instruction", "output"} <= set(names)


def _pairs(
    names: Sequence[str], inputs: Sequence[str] | set[str], targets: Sequence[str] | set[str]
) -> list[tuple[str, str]]:
    return [
        (input, target)
        for input in names
        for target in names
        if _plain_name(input) in inputs and _plain_name(target) in targets and input != target
    ]


def _plain_name(name: str) -> str:
    """Return a name in lower case without numbers, remarks, spaces: `1. 질문(필수)` is 질문."""
    composed = unicodedata.normalize("NFC", name).casefold()
    composed = re.sub(r"\([^)]*\)|\[[^\]]*\]|^\s*\d+[.)]", "", composed)
    return re.sub(r"[\W_]+", "", composed)
