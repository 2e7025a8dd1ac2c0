"""Exported folder of a run: artifacts, settings, script and README."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from bench import registry
from bench.errors import UserError
from bench.escape import escape_markdown_value, markdown_code
from bench.export.merge import NO_MERGE_HINT, write_merged_model
from bench.export.provenance import TEMPLATES, Provenance
from bench.export.script_settings import (
    NEAREST_SHOTS_FILE,
    choose_template,
    probe_settings,
    prompt_settings,
    required_packages,
    shot_settings,
)
from bench.i18n import Message
from bench.measurement.determinism import seed_all
from bench.method import LM
from bench.modeling import checkpoint, compat

SETTINGS, SCRIPT, README = "settings.json", "answer.py", "README.md"
ADAPTER_CONFIG = "adapter_config.json"  # every folder of a PEFT adapter has one
TRAINED_WEIGHTS = "trained.safetensors"
MODEL_CONFIG = "config.json"
QUANTIZATION = "quantization.json"
BASE = "base"  # subfolder for a copy of the base model


@dataclass
class ScriptFacts:
    """Variables of the script templates; model variables are unused without a model.

    No text of a record or a task is one of them: a script reads such texts from its settings.
    """

    has_stop_texts: bool
    """A text ends an answer; otherwise only the model ends it."""
    model: str = ""
    """Python expression for the argument of `from_pretrained`."""
    adapter: bool = False
    """The folder has a PEFT adapter for the base model."""
    trained: bool = False
    """The folder has weights that replace some of the base model."""
    quantized: bool = False
    chat: bool = False
    """Prompts are turns of a chat."""
    encoder: bool = False
    nearest_shots: bool = False
    """The solved examples nearest to a question stand before it."""
    head_dim_model_type: str = ""
    """Model type whose configuration class refuses the model; empty if it accepts it."""


@dataclass
class Bundle:
    """Contents of an exported folder."""

    provenance: Provenance
    artifacts: Path
    """Folder that the method saved."""
    merge: bool = False
    """True to write one full model with the trained weights merged."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Content of `settings.json`, set by `write`."""
    base_location: str | None = None
    """Folder or hub name of the base model; None if the exported folder needs none."""
    holds_full_model: bool = False
    """True if `from_pretrained` loads the exported folder, set by `write`."""

    @property
    def template(self) -> str | None:
        """Name of the script template, or None if no script can be written."""
        return choose_template(self.provenance, self.artifacts)

    def write(self, folder: Path) -> None:
        """Fill an empty folder with artifacts, settings and script, but no README.

        Raises:
            UserError: `merge` is set and impossible for this method, or a saved file has the name of an exported one.
        """
        record = self.provenance.record
        spec = record.spec
        self._check_merge()
        shutil.copytree(self.artifacts, folder, dirs_exist_ok=True)
        if (folder / ADAPTER_CONFIG).is_file():
            (folder / README).unlink(missing_ok=True)  # PEFT saves a form with blanks
        for name in (SETTINGS, SCRIPT, README, BASE):
            if (folder / name).exists():
                message = Message(
                    "{name} saves a file '{file}', which an export would replace", name=spec.method.name, file=name
                )
                raise UserError(
                    message, hint=Message("choose another file name in the method's save, not '{name}'", name=name)
                )
        self.settings = {
            "record": record.id,
            "method": spec.method.name,
            "params": spec.method.params,
            "seed": spec.seed,
            "task": spec.task.model_dump(mode="json", exclude={"ref"}),
            "example_question": self.provenance.task.splits[spec.split][0].input,
            "stop_texts": list(spec.decoding.stop),
        }
        facts = ScriptFacts(has_stop_texts=bool(spec.decoding.stop))
        has_model = record.cost is not None and bool(record.cost.parameters)
        if self.template is not None and has_model:
            self._write_model(folder, facts)
        text = json.dumps(self.settings, ensure_ascii=False, indent=1)
        (folder / SETTINGS).write_text(text + "\n", "utf-8")
        if self.template is not None:
            (folder / SCRIPT).write_text(_render(f"{self.template}.txt", asdict(facts)), "utf-8")

    def write_readme(self, folder: Path, notes: Sequence[str]) -> None:
        """Write the README of an exported folder; `notes` say which answers were compared."""
        record = self.provenance.record
        generation_config = self.settings.get("generation_config")
        variables = {
            "record": record,
            "spec": record.spec,
            "card": self.provenance.task.card,
            "template": self.template,
            "notes": notes,
            "generation_config": json.dumps(generation_config, ensure_ascii=False) if generation_config else None,
            "base_location": self.base_location,
            "packages": required_packages(folder / SCRIPT) if self.template is not None else None,
            "holds_full_model": self.holds_full_model,
            "files": sorted(file.name for file in folder.iterdir()),
        }
        (folder / README).write_text(_render(README, variables), "utf-8")

    def _check_merge(self) -> None:
        has_weights = any((self.artifacts / name).is_file() for name in (ADAPTER_CONFIG, TRAINED_WEIGHTS, MODEL_CONFIG))
        if self.merge and not (has_weights and self.template in ("generate", "labels")):
            method = self.provenance.record.spec.method.name
            raise UserError(
                Message("--merge: {method} changes no weights of the plain model", method=method), hint=NO_MERGE_HINT
            )

    def _write_model(self, folder: Path, facts: ScriptFacts) -> None:
        """Add the settings of the model, and the weights that the folder has to hold."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        spec = self.provenance.record.spec
        if method := checkpoint.quantization(self.provenance.base):
            raise UserError(
                Message("a run on a model that is stored quantized ({method}) cannot be exported yet", method=method),
                location=str(self.provenance.base),
                hint=Message("use bench answer, or run the method on the model that this one was made from"),
            )
        lm = self._load_model()
        has_adapter = (self.artifacts / ADAPTER_CONFIG).is_file()
        is_full_model = (self.artifacts / MODEL_CONFIG).is_file()
        quantized = (self.artifacts / QUANTIZATION).is_file()
        if self.merge and quantized:
            message = Message(
                "--merge: {name} was trained on 4-bit weights and would answer differently", name=spec.method.name
            )
            raise UserError(message, hint=NO_MERGE_HINT)
        if has_adapter and not quantized:
            from peft import PeftModel

            lm.model = PeftModel.from_pretrained(lm.model, self.artifacts)
        self.settings |= prompt_settings(lm, self.artifacts, self.provenance.task, spec.seed)
        facts.nearest_shots = (folder / NEAREST_SHOTS_FILE).is_file()
        if facts.nearest_shots:
            self.settings["shots"] = shot_settings(lm, folder, self.provenance.task, spec.seed)
        self.settings["dtype"] = spec.base.dtype
        merge = (self.merge or self.template == "labels") and not is_full_model
        if merge:
            for file in self.artifacts.iterdir():
                (folder / file.name).unlink(missing_ok=True)
            write_merged_model(lm.model, self.artifacts / TRAINED_WEIGHTS, folder)
        self.holds_full_model = merge or is_full_model
        if self.holds_full_model:
            self._save_tokenizer(lm, folder)
            facts.model = "HERE"
        else:
            facts.model = self._refer_to_base_model(folder)
        if self.template == "linear_probe":
            self.settings |= probe_settings(self.artifacts, folder)
        if quantized:
            self.settings["quantization_config"] = json.loads((self.artifacts / QUANTIZATION).read_text("utf-8"))
        facts.adapter = has_adapter and not merge
        facts.trained = (self.artifacts / TRAINED_WEIGHTS).is_file() and not merge
        facts.quantized = quantized
        facts.chat = "chat" in self.settings
        facts.encoder = not lm.can_generate
        config = lm.model.config.to_dict()
        facts.head_dim_model_type = config["model_type"] if compat.has_explicit_head_dim(config) else ""

    def _save_tokenizer(self, lm: LM, folder: Path) -> None:
        lm.tokenizer.save_pretrained(folder)
        if lm.can_generate:
            from transformers import GenerationConfig

            # Stop strings need a tokenizer, so `generate` would fail for users who pass none; the script passes it.
            options = self.settings["generation_config"] | {"stop_strings": None}
            GenerationConfig(**options).save_pretrained(folder)

    def _load_model(self) -> LM:
        """Load the base model as the run did, with the same random weights where there are none."""
        spec = self.provenance.record.spec
        seed_all(spec.seed)
        base = checkpoint.Checkpoint(self.provenance.base, spec.base.dtype, "cpu", spec.decoding, spec.prompt)
        loaded = base.load()
        loaded.check_reading()  # decides if the script may keep a cache
        lm = cast(LM, loaded)
        if self.template == "labels":
            seed_all(spec.seed)
            lm.prepare(self.provenance.task.training_data(spec.seed, spec.budget.examples))
        return lm

    def _refer_to_base_model(self, folder: Path) -> str:
        """Write the base model's location into settings and adapter; return it as Python code.

        A hub model is referred to by name and revision, a folder by its path. A model that ships with adaptbench, or
        an adapter merged into its base model, is copied into the exported folder.
        """
        base, ref = self.provenance.base, self.provenance.spec.base.ref
        location, revision = str(base.absolute()), ""
        if ref in registry.list_entries("models"):
            location = BASE
            (folder / BASE).mkdir()
            for file in checkpoint.list_model_files(base):
                shutil.copyfile(file, folder / BASE / file.name)
        elif checkpoint.base_model_folder(base) != base:  # the base model of the run is itself an adapter on a model
            location = BASE
            lm = self._load_model()
            lm.model.save_pretrained(folder / BASE)
            lm.tokenizer.save_pretrained(folder / BASE)
        elif not Path(ref).is_dir():
            location = ref.partition("@")[0]
            if base.parent.name == "snapshots":  # the hub cache names this folder after the revision
                revision = f", revision={base.name!r}"
        self.base_location = location
        self.settings["base"] = {"model": location, "sha256": self.provenance.record.spec.base.sha256}
        adapter_config = folder / ADAPTER_CONFIG
        if adapter_config.is_file():
            config = json.loads(adapter_config.read_text("utf-8")) | {"base_model_name_or_path": location}
            adapter_config.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", "utf-8")
        return ('HERE / "base"' if location == BASE else 'SETTINGS["base"]["model"]') + revision


def _render(template: str, variables: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    escapes: dict[str, Any] = {"finalize": escape_markdown_value} if template == README else {}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        undefined=StrictUndefined, **escapes,
    )  # fmt: skip
    environment.filters |= {"code": lambda text: Markup(markdown_code(text)), "shell": shlex.quote}
    return environment.get_template(template).render(variables)
