"""Every decoder answers as plain reading does, row by row, or is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import byte_tokenizer

from bench.errors import UserError
from bench.execution import feasibility
from bench.method import Unsupported
from bench.modeling import checkpoint, compat
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import Decoding

PREFIX = "Words that stand before every question. "
PROMPTS = [f"{PREFIX}{'and more ' * (index % 3)}question {'abcde'[index]}:" for index in range(5)]
COMPLETIONS = ["one", "two", "some more"]
NEW_TOKENS = 6
VOCABULARY, END = 260, 256
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = SIZES | {"num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 256}
GROUPED = HEADS | {"num_key_value_heads": 2}
MAMBA_HEADS = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16}
LAYERS = {"n_layer": 2, "n_head": 4}
SEQ2SEQ = {"d_model": 32, "decoder_layers": 2, "decoder_ffn_dim": 64, "decoder_attention_heads": 4}
MPT = {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}
NO_CACHE_COPIES = ("cached_labels", "shared_prefix")
# For each architecture its sizes, and the fast paths that are wrong for it.
ARCHITECTURES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Lfm2": (GROUPED | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8}, NO_CACHE_COPIES),
    "FalconH1": (GROUPED | MAMBA_HEADS | {"mamba_d_ssm": 64}, NO_CACHE_COPIES),
    "Mamba": (SIZES | {"state_size": 8}, NO_CACHE_COPIES),
    "Rwkv": (SIZES | {"intermediate_size": 64}, ("padding", "batches", *NO_CACHE_COPIES)),
    "DeepseekV3": (HEADS | {"num_key_value_heads": 4} | LATENT | EXPERTS | {"first_k_dense_replace": 1}, ()),
    "OpenAIGPT": (LAYERS | {"vocab_size": VOCABULARY, "n_embd": 32, "n_positions": 256}, NO_CACHE_COPIES),
    "Mpt": (MPT, ("shared_prefix",)),
    "Marian": (
        SEQ2SEQ | {"vocab_size": VOCABULARY, "max_position_embeddings": 256, "is_decoder": True},
        ("padding", "shared_prefix"),
    ),
}  # fmt: skip


def save_model(folder: Path, name: str, sizes: dict[str, Any], class_name: str | None = None) -> None:
    """Save a small model with large random weights, so that answers differ."""
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**sizes)
    config.eos_token_id, config.bos_token_id, config.pad_token_id = END, None, END
    model_class = getattr(transformers, class_name) if class_name else None
    model = model_class(config) if model_class else transformers.AutoModelForCausalLM.from_config(config)
    for weight_name, weight in model.named_parameters():
        if weight.dim() == 2 and "A_log" not in weight_name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def load(folder: Path) -> CausalLM:
    lm: Any = Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=NEW_TOKENS, stop=())).load()
    return lm


def plain_logits(lm: CausalLM, token_ids: list[int]) -> Any:
    with torch.inference_mode():
        return lm.model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0].float()


def plain_answer(lm: CausalLM, prompt: str) -> str:
    new_ids: list[int] = []
    while len(new_ids) < NEW_TOKENS and END not in new_ids:
        new_ids.append(int(plain_logits(lm, lm.tokens(prompt) + new_ids)[-1].argmax()))
    return str(lm.tokenizer.decode(new_ids, skip_special_tokens=True))


def plain_loglikelihood(lm: CausalLM, prompt: str, completion: str) -> float:
    prompt_ids, completion_ids = lm.tokens(prompt), lm.completion_tokens(prompt, completion)
    nats = plain_logits(lm, prompt_ids + completion_ids).log_softmax(-1)[len(prompt_ids) - 1 : -1]
    return float(nats.gather(1, torch.tensor(completion_ids).unsqueeze(1)).mean())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_decoder_answers_and_scores_as_plain_reading(name: str, tmp_path: Path) -> None:
    sizes, wrong_paths = ARCHITECTURES[name]
    save_model(tmp_path, name, sizes, f"{name}ForCausalLM" if name == "Marian" else None)
    checkpoint.check_model_folder(tmp_path)
    lm = load(tmp_path)
    assert lm.fast_paths.unused == wrong_paths
    assert lm.generate(PROMPTS) == [plain_answer(lm, prompt) for prompt in PROMPTS]
    expected = [[plain_loglikelihood(lm, prompt, text) for text in COMPLETIONS] for prompt in PROMPTS]
    for prompt, nats in zip(PROMPTS, expected, strict=True):
        assert lm.loglikelihood(prompt, COMPLETIONS) == pytest.approx(nats, rel=1e-3)
    assert lm.choose_label(PROMPTS, COMPLETIONS) == [nats.index(max(nats)) for nats in expected]


def test_fast_paths_weights_not_finite_are_named_as_reason(tmp_path: Path) -> None:
    save_model(tmp_path, "Llama", GROUPED)
    lm = load(tmp_path)
    lm.model.get_input_embeddings().weight.data.fill_(torch.nan)
    with pytest.raises(Unsupported, match="NaN or infinite"):
        lm.check_reading()


def test_survey_model_without_attention_estimates_every_method(tmp_path: Path) -> None:
    save_model(tmp_path, "Mamba", ARCHITECTURES["Mamba"][0])
    survey = feasibility.survey_model(str(tmp_path), "float32", 64)
    assert survey.facts.context is None  # neither the model nor its tokenizer has a limit
    needs = survey.memory_needs
    assert {need.method for need in needs} == {*feasibility.DECODER_ESTIMATORS}
    assert all(need.answer_mib > 0 for need in needs)


def test_context_of_mpt_is_its_max_seq_len(tmp_path: Path) -> None:
    save_model(tmp_path, "Mpt", ARCHITECTURES["Mpt"][0])
    assert load(tmp_path).context == checkpoint.context_length(tmp_path) == 256


@pytest.mark.parametrize(
    ("name", "class_name", "sizes"),
    [
        ("Bert", "BertLMHeadModel", HEADS),
        ("Electra", "ElectraForCausalLM", HEADS | {"embedding_size": 16}),
        ("RemBert", "RemBertForCausalLM", HEADS | {"input_embedding_size": 16, "output_embedding_size": 16}),
    ],
)
def test_check_model_folder_decoder_that_reads_ahead_is_refused(
    name: str, class_name: str, sizes: dict[str, Any], tmp_path: Path
) -> None:
    save_model(tmp_path, name, sizes, class_name)
    with pytest.raises(UserError, match="from left to right") as refusal:
        checkpoint.check_model_folder(tmp_path)
    assert "is_decoder" in (refusal.value.hint or "")


def test_check_model_folder_bert_as_decoder_is_accepted(tmp_path: Path) -> None:
    save_model(tmp_path, "Bert", HEADS | {"is_decoder": True}, "BertLMHeadModel")
    checkpoint.check_model_folder(tmp_path)
    assert load(tmp_path).fast_paths.padding


def save_wide_heads(folder: Path) -> None:
    """A Llama of the shape of Kanana-nano: the width is no multiple of the heads, and `head_dim` is explicit."""
    sizes = GROUPED | {"hidden_size": 28, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16}
    compat.accept_explicit_head_dim(sizes | {"model_type": "llama"})
    save_model(folder, "Llama", sizes)


def test_load_explicit_head_dim_accepts_any_width(tmp_path: Path) -> None:
    save_wide_heads(tmp_path)
    lm = load(tmp_path)
    assert lm.generate(PROMPTS) == [plain_answer(lm, prompt) for prompt in PROMPTS]
    facts = feasibility.survey_model(str(tmp_path), "float32", 64).facts
    assert (facts.width, facts.heads) == (28, 3)
    assert not compat.has_explicit_head_dim({"hidden_size": 28, "num_attention_heads": 3})


def test_generate_stop_text_missing_from_vocabulary_still_stops(tmp_path: Path) -> None:
    """The words of this vocabulary hold no line break, so `generate` of transformers would fail on one as stop text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    save_model(tmp_path, "Llama", GROUPED)
    words = {"<end>": 0} | {f"w{index}": index for index in range(1, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 0}), "utf-8")
    lm: Any = Checkpoint(tmp_path, "float32", "cpu", Decoding(max_new_tokens=NEW_TOKENS, stop=("\n",))).load()
    (answer,) = lm.generate(["w5 w6 w7"])
    assert answer and "\n" not in answer
    stop = answer[: answer.index(" ") + 3]
    stopping: Any = Checkpoint(tmp_path, "float32", "cpu", Decoding(max_new_tokens=NEW_TOKENS, stop=(stop,))).load()
    (stopped,) = stopping.generate(["w5 w6 w7"])
    assert stopped.startswith(stop) and len(stopped) < len(answer)
