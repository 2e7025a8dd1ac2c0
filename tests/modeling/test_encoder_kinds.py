"""Encoders of many architectures: positions, padding, heads under other names, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import transformers
from conftest import MakeTask
from support import byte_tokenizer

from bench import registry
from bench.errors import UserError
from bench.execution import feasibility, plan
from bench.execution.budget import BudgetTracker
from bench.measurement.determinism import seed_all
from bench.method import Unsupported
from bench.modeling import checkpoint, model_config
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits, Decoding
from bench.testing import QUESTIONS, tiny_training_data

DATA = tiny_training_data()
POSITIONS = 128
LONG_QUESTION = "long " * 60
SHAPE: dict[str, Any] = {
    "vocab_size": 262,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
    "pad_token_id": 256,
}
# RoBERTa counts positions from the padding id on, so a small one leaves most of them.
PAD_1 = SHAPE | {"pad_token_id": 1}
XLNET = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}

# For each kind the class of the saved model, its configuration, the context, and the side of padding.
KINDS: dict[str, tuple[str, dict[str, Any], int, str | None]] = {
    "bare BERT": ("BertModel", SHAPE, POSITIONS, "right"),
    "bare XLM-R": ("XLMRobertaModel", PAD_1, POSITIONS - 2, "right"),
    "token classifier": ("ElectraForTokenClassification", SHAPE | {"embedding_size": 16}, POSITIONS, "right"),
    "MPNet": ("MPNetForMaskedLM", PAD_1, POSITIONS - 2, "right"),
    "Longformer": ("LongformerForMaskedLM", PAD_1 | {"attention_window": 16}, POSITIONS - 2, "right"),
    "DistilBERT": (
        "DistilBertForMaskedLM",
        {"vocab_size": 262, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "pad_token_id": 256}
        | {"max_position_embeddings": POSITIONS},
        POSITIONS,
        "right",
    ),
    "DeBERTa": ("DebertaV2Model", SHAPE | {"relative_attention": True, "pos_att_type": ["c2p"]}, POSITIONS, "right"),
    "XLNet": ("XLNetLMHeadModel", XLNET | {"vocab_size": 262, "pad_token_id": 256}, sys.maxsize, "left"),
    "ConvBERT": ("ConvBertModel", SHAPE | {"embedding_size": 32}, POSITIONS, None),
    "FNet": (
        "FNetModel",
        {key: value for key, value in SHAPE.items() if key != "num_attention_heads"},
        POSITIONS,
        None,
    ),
    "CANINE": ("CanineModel", SHAPE, POSITIONS, None),
    "Funnel": (
        "FunnelBaseModel",
        {"vocab_size": 262, "d_model": 32, "block_sizes": [1, 1], "n_head": 4, "d_head": 8, "d_inner": 64},
        sys.maxsize,
        None,
    ),
}
MakeEncoder = Callable[[str], Checkpoint]


@pytest.fixture(scope="module")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> MakeEncoder:
    """Returns a tiny checkpoint of a kind; tests must not change its folder."""

    def make(kind: str) -> Checkpoint:
        class_name, options, _, _ = KINDS[kind]
        folder = tmp_path_factory.mktemp("kind") / "base"
        model_class = getattr(transformers, class_name)
        torch.manual_seed(0)
        model_class(model_class.config_class(**options)).save_pretrained(folder)
        pad_token = "<end>" if options.get("pad_token_id") != 1 else '"'  # the byte tokenizer's token of id 1
        byte_tokenizer(add_bos=True, bos_token="<begin>", pad_token=pad_token).save_pretrained(folder)
        checkpoint.check_model_folder(folder)
        return Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=()))

    return make


def fit(name: str, base: Checkpoint, steps: int = 1) -> Any:
    method: Any = registry.find_method(name)()
    seed_all(0)
    lm: Any = method.load(base)
    seed_all(0)
    return method.fit(lm, DATA, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(DATA.train)))


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_kind_answers_alike_in_any_batch(make_encoder: MakeEncoder, kind: str) -> None:
    """Padding changes no answer, and a prompt longer than the positions loses its head."""
    base, questions = make_encoder(kind), [QUESTIONS[0], QUESTIONS[1] + " and", LONG_QUESTION]
    _, _, context, padding_side = KINDS[kind]
    assert checkpoint.context_length(base.folder) == context
    for name in ("features", "lora"):
        method = fit(name, base)
        usage = method.lm_.token_usage
        answers = method.predict(questions)
        assert (method.lm_.context, method.lm_.padding_side) == (context, padding_side)
        assert usage.truncated_prompts == (context == POSITIONS or context == POSITIONS - 2)
        assert [method.predict([question])[0] for question in questions] == answers
    lm, option = method.lm_, DATA.options[0]
    pairs = [lm.encode(DATA.prompt(question), option) for question in questions]
    alone = fmean(lm.evaluate_loss([pair])[0] for pair in pairs)
    assert lm.evaluate_loss(pairs)[0] == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("kind", ["DistilBERT", "bare XLM-R", "DeBERTa", "XLNet"])
def test_lora_encoder_updates_body_and_saves_whole_head(make_encoder: MakeEncoder, kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    method = fit("lora", make_encoder(kind))
    method.save(tmp_path)
    model = method.lm_.model.get_base_model()
    body = {f"base_model.model.{name}" for name, _ in model.named_modules()} & {
        f"base_model.model.{model.base_model_prefix}.{name}" for name, _ in model.base_model.named_modules()
    }
    saved = load_file(tmp_path / "adapter_model.safetensors")
    updated = {name.rpartition(".lora_")[0] for name in saved if ".lora_" in name}
    assert updated and updated <= body, "only layers of the body are updated"
    head = {name for name, weight in model.named_parameters() if weight.requires_grad and "lora_" not in name}
    assert len([name for name in saved if "lora_" not in name]) == len(head) >= 4, "the trained head is saved"


@pytest.mark.parametrize("kind", ["DeBERTa", "XLNet"])
def test_virtual_tokens_encoder_trains_and_saves_whole_head(
    make_encoder: MakeEncoder, kind: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    method = fit("prompt-tuning", make_encoder(kind))
    method.save(tmp_path)
    trained = {name for name, weight in method.lm_.model.named_parameters() if weight.requires_grad}
    head = {name for name in trained if "prompt_encoder" not in name}
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert len([name for name in saved if not name.startswith("prompt_")]) == len(head) >= 4


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "encoder"),
        ({"model_type": "bert"}, "encoder"),
        ({"model_type": "roberta", "architectures": ["RobertaForQuestionAnswering"]}, "encoder"),
        ({"model_type": "canine", "architectures": ["CanineModel"]}, "encoder"),
        ({"model_type": "xlm", "architectures": ["XLMWithLMHeadModel"]}, "encoder"),
        ({"model_type": "xlm", "architectures": ["XLMWithLMHeadModel"], "causal": True}, "decoder"),
        ({"model_type": "xlnet", "architectures": ["XLNetLMHeadModel"], "attn_type": "bi"}, "encoder"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, "decoder"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "decoder"),
        ({"model_type": "bart", "architectures": ["BartForSequenceClassification"], "is_encoder_decoder": True}, None),
        ({"model_type": "llama", "architectures": ["LlamaModel"]}, None),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, None),
    ],
    ids=lambda value: str(value.get("architectures", "no name")) if isinstance(value, dict) else None,
)
def test_model_kind_is_decided_by_class_and_type(config: dict[str, Any], kind: str | None) -> None:
    assert model_config.model_kind(config) == kind


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "llama", "architectures": ["LlamaModel"]}, "decoder without its output layer"),
        ({"model_type": "t5", "architectures": ["T5EncoderModel"], "is_encoder_decoder": True}, "encoder-decoder"),
        (
            {"model_type": "bert", "architectures": ["JinaBertModel"], "auto_map": {"AutoModel": "modeling_bert.Jina"}},
            "needs code of its own",
        ),
        ({"model_type": "new", "architectures": ["NewModel"], "auto_map": {"AutoModel": "m.N"}}, "code of its own"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "neither"),
    ],
    ids=["bare decoder", "encoder-decoder", "own code", "own type", "images"],
)
def test_check_config_other_model_is_refused_with_reason(config: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(UserError, match=reason):
        model_config.check_config(tmp_path)


def test_plan_encoder_needs_no_room_for_answers(make_encoder: MakeEncoder, make_task: MakeTask, tmp_path: Path) -> None:
    """An encoder chooses a label, so a short context leaves room for any answer."""
    task = make_task(tmp_path / "task", labels=["warm", "cold", "mild"], new_tokens=1000)
    model = str(make_encoder("bare BERT").folder)
    assert plan.plan_jobs("features", str(task), model, seeds=1, budget_text="steps=1", settings=[])


@pytest.mark.parametrize("name", ["prefix", "prompt-tuning"])
def test_virtual_tokens_unknown_architecture_is_unsupported(make_encoder: MakeEncoder, name: str) -> None:
    with pytest.raises(Unsupported, match="PEFT cannot add virtual tokens to this architecture"):
        fit(name, make_encoder("DistilBERT"))


def test_qlora_encoder_leaves_the_head_unquantized(make_encoder: MakeEncoder) -> None:
    method = fit("qlora", make_encoder("DistilBERT"))
    head = [weight for name, weight in method.lm_.model.named_parameters() if "modules_to_save" in name]
    assert {weight.dtype for weight in head} == {torch.float32}
    assert len(method.predict(QUESTIONS)) == len(QUESTIONS)


@pytest.mark.parametrize("kind", ["CANINE", "XLNet"])
def test_survey_model_that_needs_weights_is_refused(make_encoder: MakeEncoder, kind: str) -> None:
    with pytest.raises(UserError, match="cannot be estimated without its weights"):
        feasibility.survey_model(str(make_encoder(kind).folder), "float32", 60)
