"""Models with unusual checkpoints: each is read from its files, and every method that it allows works with it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTask
from support import byte_tokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from bench import registry
from bench.errors import UserError
from bench.execution import feasibility, plan, worker
from bench.execution.budget import BudgetTracker
from bench.measurement import memory_estimate
from bench.measurement.determinism import seed_all
from bench.method import Unsupported
from bench.modeling import adapter_checkpoint, checkpoint, weight_files
from bench.modeling.causal_lm import CausalLM
from bench.modeling.checkpoint import Checkpoint
from bench.records import BudgetLimits, Decoding
from bench.testing import QUESTIONS, tiny_training_data

DATA = tiny_training_data()
PROMPTS = [DATA.prompt(question) for question in QUESTIONS]
CHAT_TEMPLATE = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}<assistant>"
SHAPE = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "initializer_range": 0.2}
LLAMA_SHAPE: dict[str, Any] = SHAPE | {"intermediate_size": 64, "max_position_embeddings": 256}


def save_llama(folder: Path, tokenizer: PreTrainedTokenizerFast, shard_size: str = "1GB", **shape: Any) -> None:
    config = LlamaConfig(vocab_size=260, bos_token_id=None, eos_token_id=tokenizer.eos_token_id, **LLAMA_SHAPE | shape)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size=shard_size)
    tokenizer.save_pretrained(folder)


def save_gpt2(folder: Path) -> None:
    config = GPT2Config(vocab_size=260, n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.2)
    config.eos_token_id = config.bos_token_id = 256
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_tokenizer(bos_token="<end>").save_pretrained(folder)


def save_bert(folder: Path) -> None:
    config = BertConfig(vocab_size=260, intermediate_size=64, max_position_embeddings=256, pad_token_id=256, **SHAPE)
    BertForMaskedLM(config).save_pretrained(folder)
    byte_tokenizer(pad_token="<end>", cls_token="<begin>", sep_token="<end>").save_pretrained(folder)


def save_chat_model(folder: Path) -> None:
    tokenizer = byte_tokenizer(add_bos=True, bos_token="<begin>")
    tokenizer.chat_template = CHAT_TEMPLATE
    save_llama(folder, tokenizer)


def save_model_with_sampling(folder: Path) -> None:
    save_llama(folder, byte_tokenizer())
    settings = {"do_sample": True, "temperature": 5.0, "top_k": 3, "eos_token_id": 256}
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")


KINDS: dict[str, Callable[[Path], None]] = {
    "no padding token (GPT-2)": save_gpt2,
    "encoder (BERT)": save_bert,
    "chat template and bos token": save_chat_model,
    "no bos token": lambda folder: save_llama(folder, byte_tokenizer(pad_token="<end>")),
    "shards": lambda folder: save_llama(folder, byte_tokenizer(), shard_size="20KB"),
    "tied embeddings": lambda folder: save_llama(folder, byte_tokenizer(), tie_word_embeddings=True),
    "untied embeddings": lambda folder: save_llama(folder, byte_tokenizer(), tie_word_embeddings=False),
    "multi-query attention": lambda folder: save_llama(folder, byte_tokenizer(), num_key_value_heads=1),
    "sampling by default": save_model_with_sampling,
    "short context": lambda folder: save_llama(folder, byte_tokenizer(), max_position_embeddings=64),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """A model of each kind; tests must not change their folders."""
    checkpoints = {}
    for number, (name, save) in enumerate(KINDS.items()):
        folder = tmp_path_factory.mktemp("kinds") / str(number)
        torch.manual_seed(0)
        save(folder)
        checkpoint.check_model_folder(folder)
        checkpoints[name] = Checkpoint(folder, "float32", "cpu", Decoding(max_new_tokens=8, stop=("\n",)))
    return checkpoints


def fit(name: str, base: Checkpoint, steps: int = 2, **params: Any) -> Any:
    method: Any = registry.find_method(name)(**params)
    seed_all(0)
    lm: Any = method.load(base)
    seed_all(0)
    return method.fit(lm, DATA, BudgetTracker(BudgetLimits(steps=steps, batch=4), len(DATA.train)))


@pytest.mark.parametrize("method", ["features", "lora", "few-shot"])
@pytest.mark.parametrize("kind", KINDS)
def test_method_any_kind_of_model_answers_alike_in_any_batch(
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


def test_find_weight_files_sharded_model_returns_all_shards(kinds: dict[str, Checkpoint]) -> None:
    assert len(weight_files.find_weight_files(kinds["shards"].folder)) > 3


def test_run_job_model_without_padding_token_succeeds(
    kinds: dict[str, Checkpoint], make_task: MakeTask, tmp_path: Path
) -> None:
    task, base = make_task(tmp_path / "feelings"), kinds["no padding token (GPT-2)"]
    jobs = plan.plan_jobs("lora", str(task), str(base.folder), seeds=1, budget_text="steps=1,batch=4", settings=[])
    spec = jobs[0].spec.model_copy(update={"split": "validation"})  # leaves out the slow phases
    record = worker.run_job(jobs[0].model_copy(update={"spec": spec}), lambda state: None)
    assert (record.status, len(record.samples)) == ("ok", 4), record.error


def test_load_pickled_weights_equal_safetensors(kinds: dict[str, Checkpoint], tmp_path: Path) -> None:
    original = kinds["no bos token"]
    folder = tmp_path / "pickled"
    shutil.copytree(original.folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save(dict(original.load().model.state_dict()), folder / "pytorch_model.bin")
    checkpoint.check_model_folder(folder)
    pickled = dataclasses.replace(original, folder=folder)
    assert pickled.load().generate(PROMPTS) == original.load().generate(PROMPTS)


def test_load_missing_weights_raises_user_error(kinds: dict[str, Checkpoint], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    original = kinds["untied embeddings"]
    folder = tmp_path / "incomplete"
    shutil.copytree(original.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensors of the model are not in its files: model\.layers\.1\.mlp\.up_proj"):
        dataclasses.replace(original, folder=folder).load()


@pytest.mark.parametrize("name", ["full", "lora", "bitfit", "head", "peft:LN_TUNING", "prefix", "features", "few-shot"])
def test_fit_bfloat16_trains_in_float32_and_answers_in_bfloat16(kinds: dict[str, Checkpoint], name: str) -> None:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    trained_dtypes: set[torch.dtype] = set()

    def note_dtypes(optimizer: Any, *_: Any) -> None:
        trained_dtypes.update(weight.dtype for group in optimizer.param_groups for weight in group["params"])

    hook = register_optimizer_step_pre_hook(note_dtypes)
    base = dataclasses.replace(kinds["untied embeddings"], dtype="bfloat16")
    try:
        fitted = fit(name, base)
    finally:
        hook.remove()
    assert trained_dtypes <= {torch.float32}
    assert bool(trained_dtypes) is (name not in ("features", "few-shot"))
    assert len(fitted.predict(QUESTIONS)) == len(QUESTIONS)
    dtypes = {weight.dtype for key, weight in fitted.lm_.model.named_parameters() if "layers.0" in key}
    assert torch.bfloat16 in dtypes
    if name == "full":
        assert dtypes == {torch.bfloat16}


def test_fit_bfloat16_small_steps_are_not_rounded_away(kinds: dict[str, Checkpoint]) -> None:
    """Training in pure bfloat16 would lose them: a step of 1e-5 on weights of 0.2."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    changed_shares: list[float] = []
    previous: list[torch.Tensor] = []

    def compare_weights(optimizer: Any, *_: Any) -> None:
        weight = max(optimizer.param_groups[0]["params"], key=lambda parameter: parameter.numel())
        if previous:
            changed_shares.append(float((weight != previous[0]).float().mean()))
        previous[:] = [weight.detach().clone()]

    hook = register_optimizer_step_post_hook(compare_weights)
    try:
        fit("full", dataclasses.replace(kinds["tied embeddings"], dtype="bfloat16"), steps=4, lr=1e-5 * 32 / 256)
    finally:
        hook.remove()
    assert changed_shares and min(changed_shares) > 0.5


def test_fit_float16_is_unsupported_with_alternative(kinds: dict[str, Checkpoint]) -> None:
    base = dataclasses.replace(kinds["tied embeddings"], dtype="float16")
    with pytest.raises(Unsupported, match="bfloat16"):
        fit("lora", base)


@pytest.fixture(scope="module")
def adapter(kinds: dict[str, Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A LoRA adapter that changes answers; it names its base by a path relative to its own folder."""
    folder = tmp_path_factory.mktemp("adapter")
    base = kinds["tied embeddings"]
    shutil.copytree(base.folder, folder / "base")
    fitted = fit("lora", base, steps=20, lr=1e-2)
    (folder / "lora").mkdir()
    fitted.save(folder / "lora")
    set_base(folder / "lora", "../base")
    return dataclasses.replace(base, folder=folder / "lora")


def base_of(adapter: Checkpoint) -> Checkpoint:
    return dataclasses.replace(adapter, folder=adapter.folder.parent / "base")


def set_base(folder: Path, base: str) -> None:
    file = folder / adapter_checkpoint.ADAPTER_CONFIG_NAME
    config = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(config | {"base_model_name_or_path": base}), "utf-8")


def test_load_adapter_merges_it_into_base(adapter: Checkpoint) -> None:
    from peft import PeftModel

    checkpoint.check_model_folder(adapter.folder)
    base_lm, lm = base_of(adapter).load(), adapter.load()
    assert not hasattr(lm.model, "peft_config")
    peft_model = PeftModel.from_pretrained(base_of(adapter).load().model, str(adapter.folder))
    peft_lm = CausalLM(peft_model, lm.tokenizer, adapter.decoding)
    assert lm.generate(PROMPTS) == peft_lm.generate(PROMPTS)
    assert lm.generate(PROMPTS) != base_lm.generate(PROMPTS)


@pytest.mark.parametrize("name", ["lora", "qlora", "features"])
def test_method_load_adapter_starts_from_merged_model(adapter: Checkpoint, name: str) -> None:
    input_ids = torch.tensor([[65, 66, 67]])
    base_logits, merged_logits = (
        lm.model(input_ids=input_ids).logits for lm in (base_of(adapter).load(), adapter.load())
    )
    method: Any = registry.find_method(name)()
    logits = method.load(adapter).model(input_ids=input_ids).logits
    if name == "qlora":
        assert (logits - merged_logits).norm() < (logits - base_logits).norm()
    else:
        assert torch.equal(logits, merged_logits)


@pytest.mark.parametrize("kind", ["tied embeddings", "untied embeddings", "shards", "encoder (BERT)"])
def test_load_other_device_never_holds_weights_on_host(
    kinds: dict[str, Checkpoint], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[set[str]] = []
    from_pretrained = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def note_devices(cls: Any, *args: Any, **kwargs: Any) -> Any:
        model, loading_info = from_pretrained(cls, *args, **kwargs)
        devices.append({weight.device.type for weight in model.parameters()})
        return model, loading_info

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(note_devices))
    dataclasses.replace(kinds[kind], device="meta").load()  # a device that is not the host and is on every machine
    kinds[kind].load()
    assert devices == [{"meta"}, {"cpu"}]


def test_weights_digest_pipe_among_the_files_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match=r"model\.safetensors is not a regular file"):
        checkpoint.weights_digest(tmp_path)


def test_weights_digest_adapter_covers_base_but_not_its_location(adapter: Checkpoint, tmp_path: Path) -> None:
    digest = checkpoint.weights_digest(adapter.folder)
    shutil.copytree(adapter.folder.parent, tmp_path / "moved")
    moved = tmp_path / "moved" / "lora"
    assert checkpoint.weights_digest(moved) == digest
    (tmp_path / "moved" / "base").rename(tmp_path / "elsewhere")
    set_base(moved, str(tmp_path / "elsewhere"))
    assert checkpoint.weights_digest(moved) == digest
    config = tmp_path / "elsewhere" / "config.json"
    config.write_text(config.read_text("utf-8").replace("1e-06", "1e-05"), "utf-8")
    assert checkpoint.weights_digest(moved) != digest


def test_load_adapter_merge_that_changes_output_raises_user_error(
    adapter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import Linear

    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name: torch.zeros_like(self.weight))
    with pytest.raises(UserError, match="merging the adapter changes"):
        adapter.load()


@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("name", ["full", "lora"])
def test_feasibility_training_estimate_equals_estimate_of_run(
    kinds: dict[str, Checkpoint], name: str, rows: int
) -> None:
    base = kinds["multi-query attention"]
    lm: Any = base.load()
    method: Any = registry.find_method(name)()
    expected = memory_estimate.training_bytes(method.adapt(lm.model), 1000, rows)
    empty = feasibility.build_empty_model(base.folder, "float32")
    assert memory_estimate.training_bytes(method.adapt(empty.model), 1000, rows) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("no padding token (GPT-2)", "padding_named", False),
        ("encoder (BERT)", "kind", "encoder"),
        ("chat template and bos token", "begins_with", "<begin>"),
        ("no bos token", "begins_with", None),
        ("tied embeddings", "tied_embeddings", True),
        ("untied embeddings", "tied_embeddings", False),
        ("multi-query attention", "key_value_heads", 1),
        ("sampling by default", "ends", ["<end>"]),
        ("short context", "context", 64),
        ("shards", "stored_in", ["F32"]),
    ],
)
def test_survey_model_reports_facts_and_memory_needs(
    kinds: dict[str, Checkpoint], kind: str, key: str, value: Any
) -> None:
    survey = feasibility.survey_model(str(kinds[kind].folder), "float32", 64)
    facts = survey.facts
    assert getattr(facts, key) == value
    assert facts.parameters == kinds[kind].load().count_parameters()[0]
    assert facts.bytes >= 4 * facts.parameters * 0.9
    assert {need.method for need in survey.memory_needs} >= {"features", "lora", "full"}
    assert all(need.fits and need.fit_mib >= need.load_mib for need in survey.memory_needs)


def test_feasibility_little_memory_shrinks_micro_batch_then_does_not_fit(kinds: dict[str, Checkpoint]) -> None:
    lm = feasibility.build_empty_model(kinds["tied embeddings"].folder, "float32")
    model_bytes = memory_estimate.model_bytes(lm.model)
    ample, little, none = (
        {need.method: need for need in feasibility.estimate_memory_needs(lm, 64, free_bytes, 0)}
        for free_bytes in (2**40, model_bytes + 3 * 2**20, model_bytes)
    )
    assert ample["lora"].micro_batch == 16
    assert 1 <= (little["lora"].micro_batch or 0) < 16
    assert not none["lora"].fits and none["lora"].micro_batch == 1
