"""Constrained answers: what is generated matches, in any batch; what cannot work is refused before anything runs."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import CODE, MakeRecord, MakeTask, examples
from support import tiny_encoder

from bench.errors import UserError
from bench.execution import plan
from bench.method import Unsupported
from bench.modeling import generation
from bench.modeling.checkpoint import Checkpoint, load_whole_tokenizer
from bench.modeling.constraint import choice, grammar
from bench.modeling.constraint.token_mask import TokenConstraint
from bench.records import AnswerConstraint, Decoding
from bench.records.comparability import differing_terms, require_comparable
from bench.report.caveats import describe_prompts

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "이름": {"type": "string", "maxLength": 3},
        "act": {"enum": ["대출", "반납", "loan"]},
        "copies": {"type": "integer", "minimum": 1, "maximum": 12},
    },
    "required": ["이름", "act", "copies"],
    "additionalProperties": False,
}
KOREAN = ("도서 대출", "도서 반납", "연장", "예약하기", "lend", "lending")
PROMPTS = [
    f"Q: {text}\nA:" for text in ("red", "blue 2", "회색", "a longer question?", "7", "x y z", "!", "green", "0")
]
STOP = "\n\n"


def schema_constraint(start: str = " ") -> AnswerConstraint:
    return AnswerConstraint(kind="schema", source=json.dumps(SCHEMA, ensure_ascii=False), answer_start=start)


def format_constraint(pattern: str, start: str = " ") -> AnswerConstraint:
    return AnswerConstraint(kind="format", source=pattern, answer_start=start)


def load(base: Checkpoint, constraint: AnswerConstraint | None, new_tokens: int = 120) -> Any:
    decoding = Decoding(max_new_tokens=new_tokens, stop=(STOP,), constraint=constraint)
    return dataclasses.replace(base, decoding=decoding).load()


def trimmed(text: str) -> str:
    return text.split(STOP)[0].strip()


def is_valid(text: str) -> bool:
    try:
        jsonschema.validate(json.loads(text), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_generate_random_weights_every_answer_matches_the_schema(
    temperature: float, lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "MIN_ROWS_TO_COMPACT", 1)  # finished rows are dropped once half of them are
    free, lm = load(lively, None), load(lively, schema_constraint())
    settings = {"temperature": temperature, "sample_index": 1}
    assert not any(is_valid(trimmed(text)) for text in free.generate(PROMPTS, **settings)), "or this test cannot fail"
    answers = lm.generate(PROMPTS, **settings)
    assert [text for text in answers if not is_valid(trimmed(text))] == []
    assert lm.token_usage.cut_answers == 0
    assert len(set(answers)) >= 3, "the answers must differ, or a batch could mix its rows up unseen"
    assert [lm.generate([prompt], **settings)[0] for prompt in PROMPTS] == answers
    assert [text for rows in (PROMPTS[:8], PROMPTS[8:]) for text in lm.generate(rows, **settings)] == answers


@pytest.mark.parametrize(
    "pattern",
    [
        "|".join(KOREAN),
        r"주제: [가-힣]{1,3} \| 책: [^|\n]{1,4}\.",
        r"(a/b|[0-9]{1,3}개){2}",
        r"(?s)<.{1,6}>",  # may contain one line break, but never the two that end an answer
        r"(?i:yes|no)[^|]{1,5}",
    ],
)
def test_generate_random_weights_every_answer_matches_the_format(pattern: str, lively: Checkpoint) -> None:
    lm = load(lively, format_constraint(pattern))
    for index in range(3):
        answers = lm.generate(PROMPTS, temperature=2.0, sample_index=index)
        # Texts that are no whole characters are decoded with marks for them; the grammar allows none.
        assert [text for text in map(trimmed, answers) if not re.fullmatch(pattern, text)] == []
    assert lm.token_usage.cut_answers == 0


def test_generate_with_rationale_constrains_the_last_line_only(lively: Checkpoint) -> None:
    lm = load(lively, format_constraint(r"답: [0-9]{1,3}개"), new_tokens=200)
    solutions = lm.generate(PROMPTS, temperature=4.0, sample_index=2, with_rationale=True)
    finished = [trimmed(text) for text in solutions if "\n" in text]
    assert finished, "some rationale must end, or this test cannot fail"
    for solution in finished:
        steps, answer = solution.split("\n")
        assert steps.strip()
        assert re.fullmatch(r"답: [0-9]{1,3}개", answer)


def test_generate_constrained_answer_at_the_token_limit_counts_as_cut(lively: Checkpoint) -> None:
    lm = load(lively, schema_constraint(), new_tokens=5)
    answers = lm.generate(PROMPTS)
    assert not any(map(is_valid, answers))
    assert lm.token_usage.cut_answers == len(PROMPTS)


def test_generate_vocabulary_that_cannot_spell_the_format_is_unsupported(
    lively: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load(lively, format_constraint("가"))
    monkeypatch.setattr(lm.constraint, "_tokenizer", ascii_tokenizer())
    with pytest.raises(Unsupported, match=r"cannot (spell|follow) what answers have to match"):
        lm.generate(PROMPTS[:1])


def ascii_tokenizer() -> Any:
    """A tokenizer of llguidance with ASCII characters only."""
    import llguidance

    class Vocabulary:
        eos_token_id, bos_token_id, special_token_ids = 127, None, (127,)
        tokens = (*(bytes([code]) for code in range(127)), b"<end>")

        def __call__(self, text: bytes | str) -> list[int]:
            return list(text if isinstance(text, bytes) else text.encode())

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Vocabulary()))


def test_bookworm_tokens_allow_every_word_and_an_end_after_whole_words_only() -> None:
    tokenizer = load_whole_tokenizer(CODE / "models" / "bookworm")
    end, width = tokenizer.eos_token_id, len(tokenizer)
    constraint = TokenConstraint(tokenizer, [end], format_constraint("|".join(KOREAN)), [])
    import torch

    def allowed(tokens: list[int]) -> set[int]:
        mask = constraint.new_mask(1, 0, [end], with_rationale=False)
        scores = mask(torch.tensor([tokens], dtype=torch.long).reshape(1, -1), torch.zeros(1, width))
        return set(torch.isfinite(scores[0]).nonzero().flatten().tolist())

    for word in KOREAN:
        tokens = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        assert all(token in allowed(tokens[:index]) for index, token in enumerate(tokens))
        assert (allowed(tokens) == {end}) == (word != "lend"), "after lend, lending is possible too"
        ends = [
            tokenizer.decode(tokens[:index]).strip() for index in range(len(tokens)) if end in allowed(tokens[:index])
        ]
        assert set(ends) <= set(KOREAN)


def plan_constrained(task: Path, base: Checkpoint, decoding: str = "constrained", methods: str = "zero-shot") -> Any:
    jobs = plan.plan_jobs(
        methods, str(task), str(base.folder), seeds=1, budget_text="ci", settings=[], decoding=decoding
    )
    return jobs[0].spec


def test_plan_schema_of_the_task_comes_before_its_format(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> None:
    task = make_task(tmp_path / "task", format="warm|cold|mild")
    constraint = plan_constrained(task, tiny).decoding.constraint
    assert constraint == AnswerConstraint(kind="format", source="warm|cold|mild", answer_start=" ")
    splits = {
        split: [row | {"target": json.dumps({"feeling": row["target"]})} for row in examples(first, 5)]
        for split, first in (("train", 0), ("validation", 20), ("test", 40))
    }
    task = make_task(tmp_path / "task", format=".*", **splits)
    schema = {"type": "object", "properties": {"feeling": {"enum": ["warm", "cold", "mild"]}}, "required": ["feeling"]}
    (task / "schema.json").write_text(json.dumps(schema, indent=2), "utf-8")
    constraint = plan_constrained(task, tiny).decoding.constraint
    assert (constraint.kind, json.loads(constraint.source)) == ("schema", schema)


def test_plan_free_answers_leave_specs_as_they_were(make_task: MakeTask, tmp_path: Path, tiny: Checkpoint) -> None:
    task = make_task(tmp_path / "task", format="warm|cold|mild")
    free, constrained = plan_constrained(task, tiny, "free"), plan_constrained(task, tiny)
    assert free.model_dump(mode="json")["decoding"].keys() == {
        "do_sample", "num_beams", "repetition_penalty", "max_new_tokens", "stop"
    }  # fmt: skip
    assert free.key != constrained.key
    assert type(free).model_validate_json(constrained.model_dump_json()) == constrained
    assert describe_prompts(free) == []
    assert describe_prompts(constrained) == [
        "generated answers are constrained to the regular expression of the task card"
    ]


def test_constraint_is_a_term_of_comparison(make_record: MakeRecord) -> None:
    def record(pattern: str | None) -> Any:
        constraint = {"constraint": {"kind": "format", "source": pattern}} if pattern else {}
        return make_record(decoding={"max_new_tokens": 8, "stop": ["\n"]} | constraint)

    free, words, digits = record(None), record("warm|cold"), record(r"\d+")
    require_comparable([free, free])
    require_comparable([words, words])
    for first, second in ((free, words), (words, free), (words, digits)):
        with pytest.raises(UserError, match=r"decoding\.constraint: .* and "):
            require_comparable([first, second])
        assert differing_terms(first.spec, second.spec).keys() == {"decoding.constraint"}
    assert differing_terms(free.spec, words.spec)["decoding.constraint"][0] == "free"


BAD_TASKS: dict[str, tuple[dict[str, Any], str | None, str, str]] = {
    "unknown mode": ({}, None, "decoding not found", "Valid"),
    "nothing to match": ({}, None, "neither a JSON schema nor a format", "schema.json"),
    "labels": ({"labels": ["warm", "cold", "mild"], "format": "warm"}, None, "no effect on labels", "leave out"),
    "look-around": ({"format": "(?=w)warm"}, None, "look-around", "without look-around"),
    "other targets": ({"format": "warm|cold"}, None, "'mild' of q2 does not match the key 'format'", "regular"),
    "no JSON": ({}, '{"type":', r"not valid JSON", ""),
    "an array": ({}, "[1]", "must be a JSON object", "properties"),
    "unknown type": ({}, '{"type": "objekt"}', "cannot be used: .*objekt", "llguidance"),
    "unknown keyword": ({}, '{"type": "array", "uniqueItems": true}', "cannot be used: .*uniqueItems", "llguidance"),
    "texts that are no JSON": ({}, '{"type": "string"}', "'warm' of q0 does not match the JSON schema", "schema"),
    "unclear end": ({"template": "{input} = {target};"}, '{"type": "string"}', "';' ends an answer", "line break"),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_plan_constraint_that_cannot_work_is_refused_with_place_and_hint(
    case: str, make_task: MakeTask, tmp_path: Path, tiny: Checkpoint
) -> None:
    card, schema, problem, hint = BAD_TASKS[case]
    task = make_task(tmp_path / "task", **card)
    if schema is not None:
        (task / "schema.json").write_text(schema, "utf-8")
    with pytest.raises(UserError, match=problem) as error:
        plan_constrained(task, tiny, "constrain" if case == "unknown mode" else "constrained")
    if case != "unknown mode":
        assert str(task) in str(error.value.location)
    assert hint in str(error.value.hint or "")


def test_plan_constrained_without_the_library_or_a_decoder_is_refused(
    make_task: MakeTask, tmp_path: Path, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path / "task", format="warm|cold|mild")
    with pytest.raises(UserError, match="an encoder generates no answers"):
        plan_constrained(task, tiny_encoder(tmp_path / "encoder"))
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert plan_constrained(task, tiny, "free")
    with pytest.raises(UserError, match="needs the package llguidance") as error:
        plan_constrained(task, tiny)
    assert error.value.hint == "pip install 'adaptbench[constrained]'"


def test_shipped_tasks_answers_match_their_schema_or_format() -> None:
    from bench.task import load_task

    checked = set()
    for folder in sorted((CODE / "tasks").iterdir()):
        if (folder / "train.jsonl").is_file() and ((folder / "schema.json").is_file() or "\nformat:" in
                                                   (folder / "task.yaml").read_text("utf-8")):  # fmt: skip
            task = load_task(folder)
            constraint = choice.read_constraint("constrained", folder, task.card, CODE / "models" / "bookworm")
            assert constraint is not None
            decoding = Decoding(max_new_tokens=8, stop=task.card.stop_texts())
            complete = choice.complete_constraint(constraint, task, decoding, None)
            matcher = grammar.TextMatcher(grammar.write_grammar(complete, decoding.stop))
            data = task.training_data(0)
            assert all(matcher.matches(data.completion(row)) for rows in task.splits.values() for row in rows)
            checked.add(folder.name)
    assert checked == {"bookrec", "capitals", "card-json", "fruit-sums"}
