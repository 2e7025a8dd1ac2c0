"""Fixtures for several folders: tiny models, a tiny task, records, and the command in its own process."""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import settings

import bench
from bench.execution import budget
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record, Sample, Spec
from bench.task import SPLITS

# Tiny models gain nothing from threads, and threads that wait for a busy core make the tests five times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests read English messages whatever the language of the developer is.
for name in ("LANGUAGE", "LC_ALL"):
    os.environ.pop(name, None)
os.environ["LC_MESSAGES"] = "C"
# A busy machine may be slow, so hypothesis must not limit the time of an example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Figures that tests measure must not come from the user's cache, nor go there. Other programs keep theirs.
USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
TEST_CACHE = Path(tempfile.mkdtemp(prefix="adaptbench-test-cache-"))
atexit.register(shutil.rmtree, TEST_CACHE, ignore_errors=True)
for name in ("huggingface", "matplotlib", "fontconfig"):
    (TEST_CACHE / name).symlink_to(USER_CACHE / name)
os.environ["XDG_CACHE_HOME"] = str(TEST_CACHE)
os.environ["ADAPTBENCH_REHEARSAL"] = "off"  # a rehearsal takes seconds, and few tests are about forecasts

CODE = Path(bench.__file__).parents[1]
CARD: dict[str, Any] = {
    "name": "feelings",
    "version": 1,
    "summary": "Colors and how they feel.",
    "language": "en",
    "license": "Apache-2.0",
    "instruction": "Name the feeling.",
    "template": "Q: {input}\nA: {target}\n",
    "normalize": "squad",
    "new_tokens": 8,
}
COLORS, FEELINGS = ("red", "blue", "green", "gray"), ("warm", "cold", "mild")

Rows = dict[str, list[dict[str, str]]]
MakeTask = Callable[..., Path]
Bench = Callable[..., "subprocess.CompletedProcess[str]"]
MakeRecord = Callable[..., Record]
MakeLabelRecord = Callable[..., Record]


class Clock:
    """Replaces the clock of budgets, so that a test need not wait."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake_clock = Clock()
    monkeypatch.setattr(budget.time, "perf_counter", fake_clock)
    return fake_clock


def examples(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"q{number}", "input": f"{COLORS[number % 4]} {number}", "target": FEELINGS[number % 3]}
        for number in range(first, first + count)
    ]


def imported(folder: Path, name: str) -> Iterator[ModuleType]:
    """Import a module of a folder with its neighbors importable, as when it runs as a script."""
    sys.path.insert(0, str(folder))
    yield importlib.import_module(name)
    sys.path.remove(str(folder))
    for file in folder.glob("*.py"):
        sys.modules.pop(file.stem, None)


@pytest.fixture(scope="module")
def recipe(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The `make.py` of a shipped task; the test module names the folder as `FOLDER`."""
    yield from imported(request.module.FOLDER, "make")


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Rows:
    """The rows of a shipped task by split; the test module names the folder as `FOLDER`."""
    return {
        split: [json.loads(line) for line in (request.module.FOLDER / f"{split}.jsonl").read_text("utf-8").splitlines()]
        for split in SPLITS
    }


@pytest.fixture(scope="session")
def make_task() -> MakeTask:
    """Create a valid task folder; keywords replace a split or a key of the card (None removes the key)."""

    def make(folder: Path, **changes: Any) -> Path:
        splits = {"train": examples(0, 9), "validation": examples(20, 4), "test": examples(40, 5)}
        card = dict(CARD)
        for key, value in changes.items():
            if key in splits:
                splits[key] = value
            elif value is None:
                del card[key]
            else:
                card[key] = value
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "task.yaml").write_text(yaml.safe_dump(card, allow_unicode=True), "utf-8")
        for split, content in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
            (folder / f"{split}.jsonl").write_text(lines, "utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A base model that loads fast; tests must not change its folder."""
    from bench.testing import tiny_base

    return tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def lively(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """`tiny` with larger weights, so that each prompt has another answer, in ASCII; do not change its folder."""
    import torch

    folder = tmp_path_factory.mktemp("lively") / "base"
    lm = tiny.load()
    torch.manual_seed(1)
    for weight in lm.model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(0.0, 0.2)
    vocabulary = lm.tokenizer.get_vocab()
    not_ascii = [token_id for token, token_id in vocabulary.items() if not (len(token) == 1 and "!" <= token <= "~")]
    lm.model.get_input_embeddings().weight.data[not_ascii] = 0.0
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return dataclasses.replace(tiny, folder=folder)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """Let a command that chose a language leave none to the tests after it."""
    yield
    options = sys.modules.get("bench.cli.options")
    if options is not None:
        options._chosen.language = "en"


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment variables of a `bench` process: it imports this checkout and stays offline."""
    paths = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


@pytest.fixture
def run_bench(environment: dict[str, str], tmp_path: Path) -> Bench:
    """Run the command `bench` in `tmp_path` and wait for its end; keywords are environment variables."""

    def command(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bench", *map(str, arguments)],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return command


def cuda_cost(record: Record, device_mib: float, host_mib: float) -> dict[str, Any]:
    """Return the cost of a record as of a run on a CUDA device, the phase `import` included."""
    cost: dict[str, Any] = record.model_dump(mode="json")["cost"]
    on_device = cost["phases"]["fit"] | {"peak_mib": device_mib, "reserved_mib": device_mib, "host_peak_mib": host_mib}
    imports = on_device | {"start_mib": None, "peak_mib": None, "reserved_mib": None}
    cost["phases"] = {"import": imports, "fit": on_device, "predict": dict(on_device)}
    return cost | {"memory_source": "cuda-allocator", "host_memory_source": "VmHWM", "context_mib": 450.0}


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    """Create a record with `items` questions, of which the fraction `em` is correct.

    Keywords replace a part of the spec (`seed=1`), one key of a part (`method__params={}`), a field of the record
    (`status="failed"`), or the scores of every answer (`scores={"em": 0.5}`).
    """

    def make(name: str = "lora", em: float = 0.5, items: int = 4, **changes: Any) -> Record:
        spec: dict[str, Any] = {
            "task": {"name": "feelings", "ref": "./feelings", "version": 1, "sha256": "a" * 64, "metric": "em"},
            "method": {"name": name, "ref": name, "control": False, "params": {"rank": 16, "lr": 2e-3}},
            "base": {"ref": "bookworm", "sha256": "b" * 64, "dtype": "float32"},
            "budget": {"epochs": 3},
            "decoding": {"max_new_tokens": 8, "stop": ["\n"]},
            "prompt": {},
            "seed": 0,
            "split": "test",
        }
        for key in list(changes):
            part, _, inner_key = key.partition("__")
            if part in spec:
                value = changes.pop(key)
                spec[part] = spec[part] | {inner_key: value} if inner_key else value
        phase = {"wall_s": 2.0, "cpu_s": 3.0, "start_mib": 1.0, "peak_mib": 700.0, "reserved_mib": None}
        cost = {
            "phases": {"fit": phase, "predict": phase},
            "memory_source": "VmHWM",
            "parameters": {"total": 90_000, "trainable": 4_000, "saved": 4_000},
            "budget_usage": {
                "train_size": spec["budget"].get("examples") or 9,
                "examples": 9,
                "epochs": 1,
                "steps": 200,
                "tokens": 99,
                "seconds": 2.0,
                "stopped_by": "epochs",
            },
            "answering": {"queries": items, "answer_tokens": 10, "latency_ms": [1.0, 2.0, 3.0]},
            "artifact_bytes": 2048,
        }
        correct = round(em * items)
        scores: dict[str, float] | None = changes.pop("scores", None)
        samples = [
            {
                "id": f"q{number}",
                "references": ["warm", "hot"],
                "raw": " warm\nQ: …",
                "answer": "warm" if number < correct else None,
                "scores": scores or {"em": float(number < correct), "f1": 0.5},
            }
            for number in range(items)
        ]
        fields: dict[str, Any] = {
            "id": Spec.model_validate(spec).id,
            "status": "ok",
            "spec": spec,
            "command": ["run", "--methods", name],
            "cost": cost,
            "env": None,
            "curve": [],
            "error": None,
            "samples": samples,
        }
        fields |= changes
        metrics = fields["samples"][0]["scores"] if fields["samples"] else ()
        means = {name: fmean(sample["scores"][name] for sample in fields["samples"]) for name in metrics}
        return Record.model_validate(fields | {"scores": means})

    return make


@pytest.fixture(scope="session")
def make_label_record(make_record: MakeRecord) -> MakeLabelRecord:
    """Create a record of closed labels; other keywords as those of `make_record`."""
    from bench.records import corpus_metrics
    from bench.records.labels import AnswerLabels

    def make(
        name: str, labels: Sequence[str], references: Sequence[str], answers: Sequence[str], **changes: Any
    ) -> Record:
        rule = AnswerLabels(names=tuple(labels), compared=tuple(labels), normalize="text")
        samples = [
            {
                "id": f"q{number:04}",
                "references": [reference],
                "raw": f" {answer}",
                "answer": answer,
                "scores": {"em": float(answer == reference), "f1": float(answer == reference)},
            }
            for number, (reference, answer) in enumerate(zip(references, answers, strict=True))
        ]
        codes = rule.read_codes([Sample.model_validate(sample) for sample in samples])
        fields = {"labels": rule, "corpus_scores": corpus_metrics.corpus_scores(codes, len(labels))}
        return make_record(name, samples=samples, **(fields | changes))

    return make
