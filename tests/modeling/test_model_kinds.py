"""Models of many kinds: whatever is odd about one is read from its files, and every way that it allows works."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from bench import registry
from bench.errors import UserError
from bench.execution import feasibility, plan, worker
from bench.execution.budget import BudgetTracker
from bench.measurement import memory_estimate
from bench.method import Unsupported
from bench.modeling import adapter_checkpoint, checkpoint, weight_files
from bench.modeling.checkpoint import Checkpoint
from bench.modeling.seed import seed_all
from bench.records.record import BudgetLimits, Decoding
from bench.testing import QUESTIONS, tiny_training_data

LESSON = tiny_training_data()
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
CHAT = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"
SHAPE = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "initializer_range": 0.2}
LLAMA: dict[str, Any] = SHAPE | {"intermediate_size": 64, "max_position_embeddings": 256}


def tokenizer(begins: bool = False, **named: Any) -> PreTrainedTokenizerFast:
    """Bytes to tokens, with an end token, and whatever else is named."""
    bytewise = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(LETTERS)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_special_tokens(["<end>", "<begin>"])
    if begins:
        bytewise.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[("<begin>", bytewise.token_to_id("<begin>"))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<end>", **named)


def llama(folder: Path, words: PreTrainedTokenizerFast, size: str = "1GB", **shape: Any) -> None:
    config = LlamaConfig(vocab_size=260, bos_token_id=None, eos_token_id=words.eos_token_id, **LLAMA | shape)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=size)
    words.save_pretrained(folder)


def gpt2(folder: Path) -> None:
    config = GPT2Config(vocab_size=260, n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.2)
    config.eos_token_id = config.bos_token_id = 256
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer(bos_token="<end>").save_pretrained(folder)


def bert(folder: Path) -> None:
    config = BertConfig(vocab_size=260, intermediate_size=64, max_position_embeddings=256, pad_token_id=256, **SHAPE)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer(pad_token="<end>", cls_token="<begin>", sep_token="<end>").save_pretrained(folder)


def templated(folder: Path) -> None:
    words = tokenizer(begins=True, bos_token="<begin>")
    words.chat_template = CHAT
    llama(folder, words)


def sampling(folder: Path) -> None:
    llama(folder, tokenizer())
    wishes = {"do_sample": True, "temperature": 5.0, "top_k": 3, "eos_token_id": 256}
    (folder / "generation_config.json").write_text(json.dumps(wishes), "utf-8")


KINDS: dict[str, Callable[[Path], None]] = {
    "no padding token (GPT-2)": gpt2,
    "encoder (BERT)": bert,
    "chat template and a token that begins": templated,
    "no token that begins": lambda folder: llama(folder, tokenizer(pad_token="<end>")),
    "weights in shards": lambda folder: llama(folder, tokenizer(), size="20KB"),
    "output layer tied": lambda folder: llama(folder, tokenizer(), tie_word_embeddings=True),
    "output layer of its own": lambda folder: llama(folder, tokenizer(), tie_word_embeddings=False),
    "heads that share keys and values": lambda folder: llama(folder, tokenizer(), num_key_value_heads=1),
    "asks for sampling": sampling,
    "short context": lambda folder: llama(folder, tokenizer(), max_position_embeddings=64),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """A model of each kind; their folders must not be changed."""
    found = {}
    for number, (name, make) in enumerate(KINDS.items()):
        folder = tmp_path_factory.mktemp("kinds") / str(number)
        torch.manual_seed(0)
        make(folder)
        checkpoint.check_model_folder(folder)
        found[name] = Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=("\n",)))
    return found


def fit(name: str, base: Checkpoint, steps: int = 2, **params: Any) -> Any:
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    lm: Any = method.load(base)
    seed_all(0)
    return method.fit(lm, LESSON, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(LESSON.train)))


@pytest.mark.parametrize("method", ["features", "lora", "few-shot"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_kind_is_adapted_and_answers_alike_in_any_batch(
    kinds: dict[str, Checkpoint], kind: str, method: str
) -> None:
    if kind == "encoder (BERT)" and method == "few-shot":
        with pytest.raises(Unsupported, match="encoder"):
            fit(method, kinds[kind]).predict(QUESTIONS)
        return
    fitted = fit(method, kinds[kind])
    answers = fitted.predict(QUESTIONS)
    assert len(answers) == len(QUESTIONS)
    assert [fitted.predict([question])[0] for question in QUESTIONS] == answers


def test_shards_are_really_several(kinds: dict[str, Checkpoint]) -> None:
    assert len(weight_files.find_weight_files(kinds["weights in shards"].folder)) > 3


def test_a_chat_template_is_what_instruct_speaks_in(kinds: dict[str, Checkpoint]) -> None:
    assert fit("instruct", kinds["chat template and a token that begins"]).predict(QUESTIONS)
    with pytest.raises(Unsupported, match="chat template"):
        fit("instruct", kinds["no token that begins"])


def test_a_model_without_a_padding_token_makes_a_whole_run(
    kinds: dict[str, Checkpoint], make_task: MakeTask, tmp_path: Path
) -> None:
    task, base = make_task(tmp_path / "feelings"), kinds["no padding token (GPT-2)"]
    jobs = plan.plan_jobs("lora", str(task), str(base.folder), seeds=1, budget_text="steps=1,batch=4", settings=[])
    spec = jobs[0].spec.model_copy(update={"exam": "validation"})  # which leaves out what takes long
    record = worker.Run(jobs[0].model_copy(update={"spec": spec}), lambda state: None).record()
    assert (record.status, len(record.samples)) == ("ok", 4), record.error


def test_pickled_weights_are_read_as_tensors_alone(kinds: dict[str, Checkpoint], tmp_path: Path) -> None:
    whole = kinds["no token that begins"]
    folder = tmp_path / "pickled"
    shutil.copytree(whole.folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save(dict(whole.load().model.state_dict()), folder / "pytorch_model.bin")
    checkpoint.check_model_folder(folder)
    prompts = [LESSON.prompt(question) for question in QUESTIONS]
    assert dataclasses.replace(whole, folder=folder).load().generate(prompts) == whole.load().generate(prompts)


def test_weights_that_are_not_in_the_files_are_missed(kinds: dict[str, Checkpoint], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = kinds["output layer of its own"]
    folder = tmp_path / "lacking"
    shutil.copytree(whole.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensors of the model are not in its files: model\.layers\.1\.mlp\.up_proj"):
        dataclasses.replace(whole, folder=folder).load()


def test_the_types_of_models_are_those_of_the_installed_transformers() -> None:
    from transformers.models.auto import modeling_auto

    from bench.modeling import model_config

    for mapping in (model_config.WRITING, model_config.READING):
        assert model_config.known_types(mapping) == set(getattr(modeling_auto, mapping))


@pytest.mark.parametrize("name", ["full", "lora", "bitfit", "head", "peft:LN_TUNING", "prefix", "features", "few-shot"])
def test_a_run_in_bfloat16_trains_in_float32_and_answers_in_bfloat16(kinds: dict[str, Checkpoint], name: str) -> None:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    trained: set[torch.dtype] = set()
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: trained.update(w.dtype for group in optimizer.param_groups for w in group["params"])
    )
    base = dataclasses.replace(kinds["output layer of its own"], dtype="bfloat16")
    try:
        fitted = fit(name, base)
    finally:
        hook.remove()
    assert trained <= {torch.float32}
    assert bool(trained) is (name not in ("features", "few-shot"))
    assert len(fitted.predict(QUESTIONS)) == len(QUESTIONS)
    whole = {weight.dtype for key, weight in fitted.lm_.model.named_parameters() if "layers.0" in key}
    assert torch.bfloat16 in whole
    if name == "full":
        assert whole == {torch.bfloat16}


def test_small_steps_are_not_rounded_away_in_bfloat16(kinds: dict[str, Checkpoint]) -> None:
    """What METHODS of pure bfloat16 lose: a step of 1e-5 on weights of 0.2."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    moved: list[float] = []
    before: list[torch.Tensor] = []

    def look(optimizer: Any, *_: Any) -> None:
        weight = max(optimizer.param_groups[0]["params"], key=lambda each: each.numel())
        if before:
            moved.append(float((weight != before[0]).float().mean()))
        before[:] = [weight.detach().clone()]

    hook = register_optimizer_step_post_hook(look)
    try:
        fit("full", dataclasses.replace(kinds["output layer tied"], dtype="bfloat16"), steps=4, lr=1e-5 * 32 / 256)
    finally:
        hook.remove()
    assert moved and min(moved) > 0.5


def test_training_in_float16_is_unsupported_with_the_way_out(kinds: dict[str, Checkpoint]) -> None:
    base = dataclasses.replace(kinds["output layer tied"], dtype="float16")
    with pytest.raises(Unsupported, match="bfloat16"):
        fit("lora", base)


@pytest.fixture(scope="module")
def adapter(kinds: dict[str, Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A LoRA that changes answers, beside its base, named by a path from its own folder."""
    folder = tmp_path_factory.mktemp("adapter")
    base = kinds["output layer tied"]
    shutil.copytree(base.folder, folder / "base")
    fitted = fit("lora", base, steps=20, lr=1e-2)
    (folder / "lora").mkdir()
    fitted.save(folder / "lora")
    name_base(folder / "lora", "../base")
    return dataclasses.replace(base, folder=folder / "lora")


def name_base(folder: Path, name: str) -> None:
    file = folder / adapter_checkpoint.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"base_model_name_or_path": name}), "utf-8")


def test_an_adapter_is_a_base_with_its_weights_merged(adapter: Checkpoint) -> None:
    from peft import PeftModel

    from bench.modeling.causal_lm import CausalLM

    checkpoint.check_model_folder(adapter.folder)
    beneath = dataclasses.replace(adapter, folder=adapter.folder.parent / "base")
    prompts = [LESSON.prompt(question) for question in QUESTIONS]
    lm: Any = adapter.load()
    assert not hasattr(lm.model, "peft_config")
    plain = PeftModel.from_pretrained(beneath.load().model, str(adapter.folder))
    beside = CausalLM(plain, lm.tokenizer, adapter.decoding)
    assert lm.answer(prompts) == beside.generate(prompts)
    assert lm.answer(prompts) != beneath.load().generate(prompts)


def test_every_method_starts_from_the_merged_model(adapter: Checkpoint) -> None:
    beneath: Any = dataclasses.replace(adapter, folder=adapter.folder.parent / "base").load()
    ids = torch.tensor([[65, 66, 67]])
    before, merged = (lm.model(input_ids=ids).logits for lm in (beneath, adapter.load()))
    for name in ("lora", "qlora", "features"):
        method: Any = registry.find_method(name)()
        found = method.load(adapter).model(input_ids=ids).logits
        if name == "qlora":
            assert (found - merged).norm() < (found - before).norm()
        else:
            assert torch.equal(found, merged)


def test_the_digest_of_an_adapter_covers_its_base_and_not_where_that_lies(adapter: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(adapter.folder.parent, tmp_path / "moved")
    moved = tmp_path / "moved" / "lora"
    assert checkpoint.weights_digest(moved) == checkpoint.weights_digest(adapter.folder)
    (tmp_path / "moved" / "base").rename(tmp_path / "elsewhere")
    name_base(moved, str(tmp_path / "elsewhere"))
    assert checkpoint.weights_digest(moved) == checkpoint.weights_digest(adapter.folder)
    config = tmp_path / "elsewhere" / "config.json"
    config.write_text(config.read_text("utf-8").replace("1e-06", "1e-05"), "utf-8")
    assert checkpoint.weights_digest(moved) != checkpoint.weights_digest(adapter.folder)


def test_an_adapter_whose_merging_changes_the_model_is_refused(
    adapter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import Linear

    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name: torch.zeros_like(self.weight))
    with pytest.raises(UserError, match="merging the adapter changes"):
        adapter.load()


@pytest.mark.parametrize("name", ["full", "lora"])
def test_what_a_survey_forecasts_is_what_a_run_forecasts(kinds: dict[str, Checkpoint], name: str) -> None:
    lm: Any = kinds["heads that share keys and values"].load()
    method: Any = registry.find_method(name)()
    wanted = memory_estimate.training_bytes(method.adapt(lm.model), 1000)
    empty = feasibility._empty(kinds["heads that share keys and values"].folder, "float32")
    assert memory_estimate.training_bytes(method.adapt(empty.model), 1000) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_survey_tells_what_is_odd_about_a_model(kinds: dict[str, Checkpoint], kind: str) -> None:
    found = feasibility.survey_model(str(kinds[kind].folder), "float32", 64)
    facts = found.facts
    odd = {
        "no padding token (GPT-2)": ("padding_named", False),
        "encoder (BERT)": ("kind", "encoder"),
        "chat template and a token that begins": ("begins_with", "<begin>"),
        "no token that begins": ("begins_with", None),
        "output layer tied": ("tied_embeddings", True),
        "output layer of its own": ("tied_embeddings", False),
        "heads that share keys and values": ("key_value_heads", 1),
        "asks for sampling": ("ends", ["<end>"]),
        "short context": ("context", 64),
        "weights in shards": ("stored_in", ["F32"]),
    }
    key, said = odd[kind]
    assert facts[key] == said
    assert facts["parameters"] == kinds[kind].load().count_parameters()[0]
    assert facts["bytes"] >= 4 * facts["parameters"] * 0.9
    assert {need.method for need in found.memory_needs} >= {"features", "lora", "full"}
    assert all(need.fits and need.fit_mib >= need.load_mib for need in found.memory_needs)


def test_training_shrinks_to_what_is_free_and_then_does_not_fit(kinds: dict[str, Checkpoint]) -> None:
    lm = feasibility._empty(kinds["output layer tied"].folder, "float32")
    roomy = {need.method: need for need in feasibility._needs(lm, 64, 2**40, 0)}
    assert roomy["lora"].micro_batch == 16
    plain = memory_estimate.model_bytes(lm.model)
    tight = {need.method: need for need in feasibility._needs(lm, 64, plain + 3 * 2**20, 0)}
    assert 1 <= (tight["lora"].micro_batch or 0) < 16
    none = {need.method: need for need in feasibility._needs(lm, 64, plain, 0)}
    assert not none["lora"].fits and none["lora"].micro_batch == 1
