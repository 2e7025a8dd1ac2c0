"""What a user takes home: what was fitted as plain libraries load it, the settings it answers by, and a script."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from bench import registry
from bench.errors import UserError
from bench.export.provenance import Provenance
from bench.method import LM
from bench.modeling import checkpoint
from bench.task import Task

TEMPLATES = Path(__file__).parent / "templates"
SETTINGS, SCRIPT, PAGE = "settings.json", "answer.py", "README.md"
ADAPTER = "adapter_config.json"  # the sign of a folder of PEFT's
BASE = "base"  # the folder of a base model that has no other home


@dataclass
class Bundle:
    """What goes into a folder, for a record and what its run has `saved`."""

    found: Provenance
    saved: Path
    merge: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the script's page is filled with."""
    base_is: str | None = None
    """Where the base model is found, in words; None where the folder needs none."""

    @property
    def page(self) -> str | None:
        """The page of the script, if there is one."""
        return _page(self.found, self.saved)

    def pack(self, folder: Path) -> None:
        """Fill an empty folder; raises `UserError` where what is asked for cannot be had of such a method."""
        record, spec, card = self.found.record, self.found.record.spec, self.found.task.card
        learnt = any((self.saved / name).is_file() for name in (ADAPTER, "trained.safetensors", "config.json"))
        if self.merge and not (learnt and self.page in ("generate", "labels")):
            why = f"{spec.method.name} changes no weights that a plain model of this architecture has"
            raise UserError(f"--merge: {why}", hint="leave --merge out")
        shutil.copytree(self.saved, folder, dirs_exist_ok=True)
        if (folder / ADAPTER).is_file():
            (folder / PAGE).unlink(missing_ok=True)  # PEFT's, with blanks to be filled in
        for name in (SETTINGS, SCRIPT, PAGE, BASE):
            if (folder / name).exists():
                raise UserError(f"{spec.method.name} saves a '{name}' of its own, which an export would replace")
        self.settings = {
            "record": record.id,
            "method": spec.method.name,
            "params": spec.method.params,
            "seed": spec.seed,
            "task": spec.task.model_dump(mode="json", exclude={"ref"}),
            "question": self.found.task.splits[spec.split][0].input,
            "end": card.end,
        }
        self.facts = {"method": spec.method.name, "task": spec.task.name, "end": card.end}
        if self.page is not None and record.cost and record.cost.parameters:  # there was a model
            self.model(folder)
        text = json.dumps(self.settings, ensure_ascii=False, indent=1)
        (folder / SETTINGS).write_text(text + "\n", "utf-8")
        if self.page is not None:
            (folder / SCRIPT).write_text(_render(f"{self.page}.txt", self.facts), "utf-8")

    def model(self, folder: Path) -> None:
        """Whatever has to do with a model: which, what it reads, how it decodes, and weights where they go along."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        spec = self.found.record.spec
        lm = self.load()
        adapter = (self.saved / ADAPTER).is_file()
        whole = (self.saved / "config.json").is_file()
        quantized = (self.saved / "quantization.json").is_file()
        if self.merge and quantized:
            why = f"{spec.method.name} was trained beside weights of 4 bits, and would answer otherwise"
            raise UserError(f"--merge: {why}", hint="leave --merge out")
        if adapter and not quantized:
            from peft import PeftModel

            lm.model = PeftModel.from_pretrained(lm.model, self.saved)
        self.settings |= _reading(lm, self.saved, self.found.task, spec.seed) | {"dtype": spec.base.dtype}
        merge = (self.merge or self.page == "labels") and not whole
        if merge:
            for file in self.saved.iterdir():
                (folder / file.name).unlink(missing_ok=True)
            _write_whole(lm.model, self.saved, folder)
        if merge or whole:
            lm.tokenizer.save_pretrained(folder)
            if lm.can_generate:
                from transformers import GenerationConfig

                # What needs a tokenizer would fail where a user calls `generate` without one; the script has it.
                GenerationConfig(**self.settings["decoding"] | {"stop_strings": None}).save_pretrained(folder)
            model = "HERE"
        else:
            model = self.refer(folder)
        if self.page == "linear_probe":
            self.settings |= _reader(self.saved, folder)
        if quantized:
            self.settings["quantization"] = json.loads((self.saved / "quantization.json").read_text("utf-8"))
        self.facts |= {
            "model": model,
            "adapter": adapter and not merge,
            "trained": (self.saved / "trained.safetensors").is_file() and not merge,
            "quantized": quantized,
            "encoder": not lm.can_generate,
        }

    def load(self) -> LM:
        """The base model as the run loaded it, also where its checkpoint left something to chance."""
        from bench.modeling.seed import seed_all

        spec = self.found.record.spec
        seed_all(spec.seed)
        lm = cast(LM, checkpoint.Checkpoint(self.found.base, spec.base.dtype, "cpu", spec.decoding).load())
        if self.page == "labels":
            seed_all(spec.seed)
            lm.prepare(self.found.task.training_data(spec.seed, spec.budget.examples))
        return lm

    def refer(self, folder: Path) -> str:
        """How the script finds the base model: on the hub, in its folder, or in a copy where the harness brought it."""
        base, ref = self.found.base, self.found.record.spec.base.ref
        home, more = str(base.absolute()), ""
        if ref in registry.list_entries("models"):
            home = BASE
            (folder / BASE).mkdir()
            for file in checkpoint.files(base):
                shutil.copyfile(file, folder / BASE / file.name)
        elif checkpoint.base_model_folder(base) != base:  # an adapter on a model: merged, as the run began with it
            home = BASE
            lm = self.load()
            lm.model.save_pretrained(folder / BASE)
            lm.tokenizer.save_pretrained(folder / BASE)
        elif not Path(ref).is_dir():
            home = ref.partition("@")[0]
            if base.parent.name == "snapshots":  # of the hub's cache: the folder is called after the revision
                more = f', revision="{base.name}"'
        self.base_is = home
        self.settings["base"] = {"model": home, "sha256": self.found.record.spec.base.sha256}
        config = folder / ADAPTER
        if config.is_file():
            said = json.loads(config.read_text("utf-8")) | {"base_model_name_or_path": home}
            config.write_text(json.dumps(said, ensure_ascii=False, indent=2) + "\n", "utf-8")
        return ('HERE / "base"' if home == BASE else 'SAID["base"]["model"]') + more

    def tell(self, folder: Path, checked: Sequence[str]) -> None:
        """Write the page that says what is in the folder; `checked` are sentences on answers that were compared."""
        record = self.found.record
        facts = {
            "record": record,
            "spec": record.spec,
            "card": self.found.task.card,
            "page": self.page,
            "checked": checked,
            "decoding": json.dumps(self.settings.get("decoding"), ensure_ascii=False) if self.settings else None,
            "base_is": self.base_is,
            "wants": _libraries(folder / SCRIPT) if self.page is not None else None,
            "whole": self.facts.get("model") == "HERE",
            "files": sorted(file.name for file in folder.iterdir()),
        }
        (folder / PAGE).write_text(_render("README.md", facts), "utf-8")


def _page(found: Provenance, saved: Path) -> str | None:
    """The page that fits what was saved: some methods do one thing for labels and another for open answers."""
    page = found.script
    if page == "prompted":
        return "choose_label" if found.task.card.labels is not None else "generate"
    if page == "generate" and (saved / "labels.json").is_file():
        return "linear_probe"
    if page in ("generate", "bottleneck") and not checkpoint.is_decoder(found.base):
        return "labels" if page == "generate" else None
    return page


def _reading(lm: LM, saved: Path, task: Task, seed: int) -> dict[str, Any]:
    """What a script has to know to read a question as the run did, and to write as it did."""
    prompt = saved / "prompt.json"
    lesson = task.training_data(seed)
    found: dict[str, Any] = {"prompt": json.loads(prompt.read_text("utf-8"))["prompt"]}
    if not lm.can_generate:
        return found | {"longest": lm.context, "options": list(lesson.options)}
    begins, options = lm.tokens(""), list(lesson.options)
    room = max([lm.max_new_tokens, *(len(lm.tokens(option)) for option in options)])
    settings = lm.model.generation_config.to_dict()
    kept = (
        "do_sample", "num_beams", "repetition_penalty", "max_new_tokens", "stop_strings",
        "eos_token_id", "pad_token_id", "bos_token_id", "use_cache",
    )  # fmt: skip
    found |= {
        "begins": begins,
        "longest": max(lm.context - room - len(begins), 1),
        "decoding": {name: settings.get(name) for name in kept},
    }
    if options:
        prior = saved / "prior.json"
        found |= {"labels": list(lesson.labels or ()), "options": options}
        found["prior"] = json.loads(prior.read_text("utf-8")) if prior.is_file() else [0.0] * len(options)
    return found


def _reader(saved: Path, folder: Path) -> dict[str, Any]:
    """What reads an answer off the model's states; a layer over labels is one without a scale."""
    if (saved / "reader.json").is_file():
        return dict(json.loads((saved / "reader.json").read_text("utf-8")))
    from safetensors.torch import load_file, save_file

    layer = load_file(saved / "trained.safetensors")
    weights, bias = layer["labels.weight"], layer["labels.bias"]
    mean = weights.new_zeros(weights.shape[1])
    numbers = {"mean": mean, "scale": mean + 1, "weights": weights, "bias": bias}
    save_file(numbers, folder / "reader.safetensors")
    (folder / "trained.safetensors").unlink()
    answers = json.loads((saved / "labels.json").read_text("utf-8"))
    return {"layer": 1.0, "pool": "last", "voters": 1, "answers": answers}


def _write_whole(model: Any, saved: Path, folder: Path) -> None:
    """One model that transformers loads by itself, with what was learnt in it."""
    from transformers import AutoConfig

    trained = saved / "trained.safetensors"
    if hasattr(model, "merge_and_unload"):
        try:
            model = model.merge_and_unload()
        except (AttributeError, NotImplementedError, ValueError, TypeError) as error:
            raise UserError(f"--merge: PEFT cannot merge this: {error}", hint="leave --merge out") from None
    elif hasattr(model, "peft_config"):
        raise UserError("--merge: what stands before the prompt is no part of any weight", hint="leave --merge out")
    elif trained.is_file():
        _put(model, trained)
    model.save_pretrained(folder)
    made = AutoConfig.from_pretrained(folder)
    _, told = type(model).from_pretrained(folder, config=made, output_loading_info=True)
    strange = sorted({*told["missing_keys"], *told["unexpected_keys"], *map(str, told["mismatched_keys"])})
    if strange:
        why = f"a plain {type(model).__name__} has no place for {strange[0]}"
        raise UserError(f"--merge: {why}", hint="leave --merge out: the script puts it there")


def _put(model: Any, trained: Path) -> None:
    """Put trained weights in their places, and have the configuration say so where an architecture has words for it."""
    from safetensors.torch import load_file
    from torch.nn import Parameter

    weights, config = load_file(trained), model.config.get_text_config()
    for name, weight in weights.items():
        layer, _, part = name.rpartition(".")
        try:
            setattr(model.get_submodule(layer), part, Parameter(weight))
        except AttributeError:
            raise UserError(f"--merge: a plain model has no place for {name}", hint="leave --merge out") from None
    head = model.get_output_embeddings()
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = config.tie_word_embeddings = False
    if any(name.endswith(".bias") for name in weights):
        for word in ("attention_bias", "mlp_bias"):
            if hasattr(config, word):
                setattr(config, word, True)


def _libraries(script: Path) -> str:
    """What has to be installed for a script, by the names under which that is done."""
    said = [
        node for node in ast.walk(ast.parse(script.read_text("utf-8"))) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    modules = {name.partition(".")[0] for node in said for name in _imported(node)} - sys.stdlib_module_names
    known = metadata.packages_distributions()
    return ", ".join(sorted(known.get(module, [module])[0] for module in modules)) or "nothing but Python"


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]


def _render(page: str, facts: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    return pages.get_template(page).render(facts)
