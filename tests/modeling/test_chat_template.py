"""Prompts as turns of a chat: what is read from a template, and how loaded models write, learn and end such turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import CODE, MakeTask
from support import byte_tokenizer, tiny_encoder
from transformers import LlamaConfig, LlamaForCausalLM

from bench import registry
from bench.cli import models
from bench.errors import UserError
from bench.execution import feasibility, plan
from bench.modeling.chat_template import ChatTemplate
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.prompt_format import choose_chat_template
from bench.records import Decoding, PromptSpec
from bench.testing import tiny_training_data
from bench.training.trainer import encode_examples

ALTERNATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
)
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
START = "{% if add_generation_prompt %}[assistant]{% endif %}"
TEMPLATES = {
    "turns": TURNS + START,
    "bos": "{{ bos_token }}" + TURNS + START,
    "no system role": ALTERNATE + "[{{ m.role }}]{{ m.content | trim }}<end>{% endfor %}" + START,
    "system left out": "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
    + START,
    "spaces": "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content | trim }} <end>"
    "{% else %}[INST] {{ m.content | trim }} [/INST]{% endif %}{% endfor %}",
    "end as text": "{% for m in messages %}[{{ m.role }}]{{ m.content }}[stop]\n\n{% endfor %}" + START,
    "no generation prompt": TURNS,
    "no end": "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}" + START,
    "thinking off": TURNS + START + "{% if enable_thinking is false %}<think></think>{% endif %}",
    "thinking on": "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] }}<end>{% endfor %}"
    + "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}",
}
FOUND: dict[str, dict[str, Any]] = {
    "turns": {},
    "bos": {"openings": ("<begin>[system]", "<begin>[user]")},
    "no system role": {"instruction_role": "user", "openings": ("[user]",)},
    "system left out": {"instruction_role": "user", "openings": ("[user]",)},
    "spaces": {"answer_start": " ", "openings": ("[INST] ",), "has_generation_prompt": False},
    "end as text": {"end_token_id": None, "end_text": "[stop]"},
    "no generation prompt": {"header": "[assistant]", "has_generation_prompt": False},
    "no end": {"end_token_id": None},
    "thinking off": {"variables": {"enable_thinking": False}},
    "thinking on": {"starts_thinking": True, "answer_start": "\n</think>\n\n"},
}
EXPECTED = {
    "variables": {}, "instruction_role": "system", "openings": ("[system]", "[user]"), "header": "",
    "answer_start": "", "has_generation_prompt": True, "end_token_id": 256, "end_text": "", "starts_thinking": False,
}  # fmt: skip
BROKEN = {
    "{% for m in messages %}": "TemplateSyntaxError",
    "{{ missing.role }}": "UndefinedError",
    "{{ ''.__class__.__mro__ }}": "SecurityError",
    "{{ raise_exception('no') }}": "TemplateError: no",
    "{{ messages[-1].content }}": "does not show all turns",
    "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}": "does not show all",
    "{% for m in messages %}{{ m.content if m.role == 'user' or not loop.last }}{% endfor %}": "not show an answer",
    "{% for m in messages %}{{ '[' + m.role + ']' if not loop.last else '' }}{{ m.content }}{% endfor %}<end>": (
        "ignores add_generation_prompt"
    ),
}
DATA = tiny_training_data()


def load_template(source: str, add_bos: bool = True) -> ChatTemplate:
    tokenizer = byte_tokenizer(add_bos=add_bos, bos_token="<begin>")
    tokenizer.chat_template = source
    return ChatTemplate.load(tokenizer, Path("model"))


def save_model(folder: Path, source: str | None, **special_tokens: Any) -> Checkpoint:
    """A tiny Llama whose tokenizer puts `<begin>` before every text."""
    tokenizer = byte_tokenizer(add_bos=True, bos_token="<begin>", **special_tokens)
    tokenizer.chat_template = source
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, initializer_range=0.2, eos_token_id=256, bos_token_id=257,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    decoding = Decoding(max_new_tokens=24, stop=("\n",))
    return Checkpoint(folder, "float32", "cpu", decoding, PromptSpec(format="chat" if source else "plain"))


def script_answers(lm: Any, texts: Sequence[str]) -> None:
    """Make the model of `lm` generate these texts, one for each prompt; `<end>` ends a text."""
    prompts: dict[tuple[int, ...], list[int]] = {}

    def generate(input_ids: Any, stopping_criteria: Any, generation_config: Any, **_: Any) -> Any:
        new_tokens = [prompts.setdefault(tuple(row), encode(texts[len(prompts)])) for row in input_ids.tolist()]
        finished = [False] * len(new_tokens)
        for index in range(generation_config.max_new_tokens):
            column = [
                [256] if ended else tokens[index : index + 1]
                for ended, tokens in zip(finished, new_tokens, strict=True)
            ]
            input_ids = torch.cat([input_ids, torch.tensor(column)], dim=1)
            flags = stopping_criteria(input_ids, None).tolist()
            finished = [ended or flag for ended, flag in zip(finished, flags, strict=True)]
            if all(finished):
                break
        return SimpleNamespace(sequences=input_ids)

    def encode(text: str) -> list[int]:
        return list(lm.tokenizer(text, add_special_tokens=False)["input_ids"])

    lm.check_reading()  # tries the model itself
    lm.model.generate = generate


@pytest.mark.parametrize("kind", TEMPLATES)
def test_load_template_finds_roles_thoughts_and_end_of_a_turn(kind: str) -> None:
    template = load_template(TEMPLATES[kind])
    found = {name: getattr(template, name) for name in EXPECTED}
    assert found == EXPECTED | FOUND[kind]
    assert template.spec.thinking == {"thinking off": "off", "thinking on": "on"}.get(kind, "none")


@pytest.mark.parametrize(("source", "problem"), BROKEN.items())
def test_load_broken_template_raises_user_error(source: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error_info:
        load_template(source)
    assert "--prompt-format plain" in str(error_info.value.hint)


def test_load_several_templates_without_default_raises_user_error() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"rag": "{{ messages }}"}
    with pytest.raises(UserError, match="multiple chat templates"):
        ChatTemplate.load(tokenizer, Path("model"))


def test_prompt_instruction_and_shots_are_turns() -> None:
    texts = {}
    for kind in ("bos", "no system role", "no generation prompt", "thinking on"):
        data = dataclasses.replace(DATA, chat=load_template(TEMPLATES[kind]))
        texts[kind] = data.prompt(" black ", [DATA.train[1]]) + "|" + data.completion(DATA.train[0])
    turns = "[user]Q: blue 1\nA:<end>[assistant]cold<end>[user]Q: black\nA:<end>[assistant]"
    assert texts == {
        "bos": f"<begin>[system]Name the feeling.<end>{turns}|warm",
        "no system role": turns.replace("[user]", "[user]Name the feeling.\n\n", 1) + "|warm",
        "no generation prompt": f"[system]Name the feeling.<end>{turns}|warm",
        "thinking on": f"[system]Name the feeling.<end>{turns}<think>\n|\n</think>\n\nwarm",
    }


def test_decode_marks_without_tokens_leave_special_tokens_out() -> None:
    template = load_template(TEMPLATES["turns"])
    template.tokenizer.unk_token = "<end>"  # the id of every text that is no token
    assert template.tokenizer.convert_tokens_to_ids("<think>") == template.tokenizer.unk_token_id
    assert template.mark_ids == []
    ids = template.tokenizer("a<end>b", add_special_tokens=False)["input_ids"]
    assert template.decode(ids) == "ab"


def test_options_labels_with_white_space_are_scored_as_they_are_trained() -> None:
    card = DATA.card.model_copy(update={"labels": [" warm", "cold "]})
    data = dataclasses.replace(DATA, card=card, chat=load_template(TEMPLATES["turns"]))
    assert data.options == ["warm", "cold"]


def test_prompt_date_in_template_stands_still() -> None:
    template = load_template("\n{{ strftime_now('%d %b %Y') }}" + TEMPLATES["turns"])
    assert template.prompt("", [], "Q") == "\n26 Jul 2024[user]Q<end>[assistant]"


@pytest.mark.parametrize("instruction", ["Do it.", "", " \n"])
@pytest.mark.parametrize("kind", ["turns", "bos"])
def test_tokens_are_those_of_apply_chat_template(kind: str, instruction: str, tmp_path: Path) -> None:
    """A blank instruction makes no turn, and leaves the special tokens as the template writes them."""
    lm: Any = save_model(tmp_path, TEMPLATES[kind]).load()
    prompt = lm.chat.prompt(instruction, [("q", "a")], "Q")
    contents = [("system", instruction), ("user", "q"), ("assistant", "a"), ("user", "Q")]
    messages = [{"role": role, "content": text} for role, text in contents if text.strip()]
    expected = lm.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert lm.tokens(prompt) == expected and lm.encode(prompt, "a")[0] == expected
    assert expected.count(257) == (kind == "bos")
    assert lm.tokens("general text")[0] == 257, "other text keeps the special tokens of the tokenizer"


@pytest.mark.parametrize(
    ("kind", "end"), [("turns", "<end>"), ("end as text", "[stop]<end>"), ("no end", "<end>"), ("thinking on", "<end>")]
)
def test_encode_completion_ends_as_a_turn_of_the_template(kind: str, end: str, tmp_path: Path) -> None:
    lm: Any = save_model(tmp_path, TEMPLATES[kind]).load()
    data = dataclasses.replace(DATA, chat=lm.chat)
    _, completion = encode_examples(lm, data, DATA.train[:1])[0]
    assert lm.tokenizer.decode(completion) == f"{lm.chat.answer_start}warm{end}"


def test_encode_turn_end_is_learned_before_the_end_token(tmp_path: Path) -> None:
    source = TEMPLATES["turns"].replace("<end>", "<turn>")
    lm: Any = save_model(tmp_path, source, additional_special_tokens=["<turn>"]).load()
    turn = lm.tokenizer.convert_tokens_to_ids("<turn>")
    assert lm.encode("Q", "A")[1][-1] == turn
    assert lm.generation_config.eos_token_id == [turn, 256]


@pytest.mark.parametrize("marks", [(), ("<think>", "</think>")])
def test_generate_thoughts_are_cut_and_counted(marks: tuple[str, ...], tmp_path: Path) -> None:
    """A line break ends an answer, but not within thoughts; marks may be special tokens, which decoding leaves out."""
    base = save_model(tmp_path, TEMPLATES["turns"], additional_special_tokens=list(marks))
    lm: Any = dataclasses.replace(base, decoding=Decoding(max_new_tokens=40, stop=("\n",))).load()
    texts = [
        "<think>a\nb</think>\n\nwarm\nmore",
        "cold<end>",
        "<think>a\n<end>",
        "<think>" + "a\n" * 20,
        "a</think>b<end>",
    ]
    script_answers(lm, texts)
    assert lm.generate([f"Q{number}" for number in range(len(texts))]) == ["warm\n", "cold", "", "", "b"]
    counts = [len(lm.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert lm.token_usage.answer_tokens == counts[0] - len("more") + counts[1] + counts[2] + 40 + counts[4]
    assert (lm.token_usage.generated_answers, lm.token_usage.cut_answers) == (5, 2)


def test_generate_white_space_before_a_chat_answer_ends_nothing(tmp_path: Path) -> None:
    lm: Any = save_model(tmp_path, TEMPLATES["turns"]).load()
    script_answers(lm, ["\n\nwarm\nmore", "\n<end>", "\n" * 30])
    assert lm.generate(["Q1", "Q2", "Q3"]) == ["\n\nwarm\n", "\n", "\n" * 24]
    assert lm.token_usage.cut_answers == 1
    plain: Any = dataclasses.replace(save_model(tmp_path / "plain", None)).load()
    script_answers(plain, ["\n\nwarm\nmore"])
    assert plain.generate(["Q1"]) == ["\n"], "answers to plain prompts stay as they were"


def test_generate_prompt_within_thoughts_begins_with_them(tmp_path: Path) -> None:
    lm: Any = save_model(tmp_path, TEMPLATES["thinking on"]).load()
    script_answers(lm, ["a\n</think>\nwarm\nmore", "a\nb<end>"])
    assert lm.generate(["Q1", "Q2"]) == ["warm\n", ""]
    assert lm.token_usage.cut_answers == 1


def test_generate_turn_end_that_is_no_token_stops_and_is_cut(tmp_path: Path) -> None:
    lm: Any = save_model(tmp_path, TEMPLATES["end as text"]).load()
    script_answers(lm, ["warm[stop]more"])
    assert lm.generate(["Q"]) == ["warm"]
    assert lm.token_usage.answer_tokens == len("warm[stop]")


def test_dpo_rejected_answer_begins_as_the_chat_template_writes(tmp_path: Path) -> None:
    base = save_model(tmp_path, TEMPLATES["spaces"])
    lm: Any = base.load()
    dpo: Any = registry.find_method("dpo")()
    pairs = dpo.preference_pairs(lm, dataclasses.replace(DATA, chat=lm.chat))
    (space,) = lm.tokenizer(" ", add_special_tokens=False)["input_ids"]
    assert pairs and all(chosen[0] == rejected[0] == space for _, chosen, rejected in pairs)


def test_plan_auto_uses_the_chat_template_and_plain_keeps_the_id(make_task: MakeTask, tmp_path: Path) -> None:
    task = str(make_task(tmp_path / "feelings"))
    with_template, without = tmp_path / "with", tmp_path / "without"
    save_model(with_template, TEMPLATES["no system role"])
    save_model(without, None)

    def planned(folder: Path, prompt_format: str) -> Any:
        jobs = plan.plan_jobs(
            "zero-shot", task, str(folder), seeds=1, budget_text="ci", settings=[], prompt_format=prompt_format
        )
        return jobs[0].spec

    assert planned(with_template, "auto") == planned(with_template, "chat")
    assert planned(with_template, "auto").prompt == PromptSpec(format="chat", instruction_role="user")
    assert planned(with_template, "auto").key != planned(with_template, "plain").key
    assert planned(without, "auto") == planned(without, "plain")
    assert planned(without, "auto").prompt == PromptSpec()


def test_plan_prompt_format_that_the_model_lacks_is_refused(make_task: MakeTask, tmp_path: Path) -> None:
    task = str(make_task(tmp_path / "feelings"))
    plain, encoder, broken = tmp_path / "plain", tmp_path / "encoder", tmp_path / "broken"
    save_model(plain, None)
    tiny_encoder(encoder)
    save_model(broken, "{{ missing.role }}")
    for folder, prompt_format, problem in (
        (plain, "chat", "the tokenizer has no chat template"),
        (encoder, "chat", "an encoder has no turns"),
        (broken, "auto", "the chat template fails"),
        (plain, "chta", "prompt format not found"),
    ):
        with pytest.raises(UserError, match=problem):
            plan.plan_jobs(
                "lora", task, str(folder), seeds=1, budget_text="ci", settings=[], prompt_format=prompt_format
            )
    jobs = plan.plan_jobs("lora", task, str(encoder), seeds=1, budget_text="ci", settings=[], prompt_format="auto")
    assert jobs[0].spec.prompt == PromptSpec()


@pytest.mark.parametrize(("stop", "chat_stops"), [((), ()), (("###",), ("###",)), (("\n", "###"), ("\n", "###"))])
def test_plan_chat_answers_end_at_the_turn_and_at_stop_texts_of_the_card(
    stop: tuple[str, ...], chat_stops: tuple[str, ...], make_task: MakeTask, tmp_path: Path
) -> None:
    task = str(make_task(tmp_path / "feelings", **({"stop": list(stop)} if stop else {})))
    save_model(tmp_path / "model", TEMPLATES["turns"])
    stops = {}
    for prompt_format in ("chat", "plain"):
        jobs = plan.plan_jobs(
            "lora,majority", task, str(tmp_path / "model"), seeds=1, budget_text="ci", settings=[],
            prompt_format=prompt_format,
        )  # fmt: skip
        (stops[prompt_format],) = {job.spec.decoding.stop for job in jobs}
    assert stops == {"chat": chat_stops, "plain": ("\n", *(text for text in stop if text != "\n"))}


def test_trim_answer_of_a_chat_keeps_its_paragraphs() -> None:
    card = DATA.card.model_copy(update={"stop": ("###",)})
    chat = dataclasses.replace(DATA, card=card, chat=load_template(TEMPLATES["turns"]))
    assert chat.trim("\n\none\n\ntwo\n###\nthree") == "one\n\ntwo"
    assert chat.final_answer("steps\n\nmore\nanswer ###") == "answer"
    assert dataclasses.replace(chat, chat=None).trim("\none ### two\n") == "one"


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("chat_template.jinja", b" \n", "plain"),
        ("notes.jinja", b"{{ messages }}", "plain"),
        ("chat_template.jinja", b"\xff{{ messages }}", "cannot be loaded"),
        ("chat_template.jinja", b"{% for m in messages %}", "the chat template fails"),
        ("additional_chat_templates/rag.jinja", b"{{ messages }}", "multiple chat templates"),
    ],
)
def test_choose_chat_template_unusual_files(name: str, content: bytes, outcome: str, tmp_path: Path) -> None:
    save_model(tmp_path, None)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    if outcome == "plain":
        assert choose_chat_template("auto", tmp_path) is None
        return
    with pytest.raises(UserError, match=outcome):
        choose_chat_template("auto", tmp_path)
    assert choose_chat_template("plain", tmp_path) is None


def test_survey_model_describes_the_chat_template(tmp_path: Path) -> None:
    save_model(tmp_path, TEMPLATES["thinking off"])
    facts = feasibility.survey_model(str(tmp_path), "float32", 32).facts
    assert (facts.chat_template, facts.instruction_role, facts.thinking, facts.ends_turn) == (
        True, "system", "off", "<end>",
    )  # fmt: skip
    facts = feasibility.survey_model(str(CODE / "models" / "bookworm"), "float32", 32).facts
    assert (facts.chat_template, facts.instruction_role, facts.thinking, facts.ends_turn) == (
        False, "none", "none", None,
    )  # fmt: skip


@pytest.mark.parametrize("source", ["{% for m in messages %}", "{{ missing.role }}"])
def test_models_command_lists_a_model_with_a_broken_chat_template(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path, source)
    models.command(str(tmp_path), tokens=32)
    output = " ".join(capsys.readouterr().out.split())
    assert "chat template cannot be used: the chat template fails" in output
    assert "LlamaForCausalLM" in output and "few-shot" in output


def test_models_command_tells_a_template_without_generation_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path, TEMPLATES["no generation prompt"])
    models.command(str(tmp_path), tokens=32)
    assert "no generation prompt" in capsys.readouterr().out


def test_models_command_refuses_a_chat_template_that_is_no_text(tmp_path: Path) -> None:
    save_model(tmp_path, None)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff{{ messages }}")
    with pytest.raises(UserError, match="cannot be loaded"):
        models.command(str(tmp_path), tokens=32)
