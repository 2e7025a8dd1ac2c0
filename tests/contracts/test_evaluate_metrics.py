"""Metrics of the library `evaluate`, from a script of the task and from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, MakeTask

from bench import task
from bench.errors import UserError
from bench.metrics.evaluate_module import EvaluateMetric
from bench.testing import check_metric

evaluate = pytest.importorskip("evaluate")

SCRIPT = '''
import datasets
import evaluate


class Same(evaluate.Metric):
    """Share of equal answers."""

    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": REFERENCES})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        pairs = zip(predictions, references, strict=True)
        share = sum(answer in texts for answer, texts in pairs) / len(predictions)
        return VALUES
'''
ROWS = [{"id": f"s{i}", "input": f"ask {i}", "target": [f"answer {i}", f"reply {i}"]} for i in range(20)]
SPLITS = {"train": ROWS[:9], "validation": ROWS[9:13], "test": ROWS[13:]}


@pytest.fixture
def make_scripted_task(make_task: MakeTask, tmp_path: Path) -> Any:
    """Create a task whose card names a script, with other values or references."""

    def make(metric: str, values: str = '{"same": share}', references: str = "[text]", **changes: Any) -> Path:
        folder = make_task(tmp_path / "task", **(SPLITS | {"metric": metric} | changes))
        (folder / "same.py").write_text(SCRIPT.replace("VALUES", values).replace("REFERENCES", references), "utf-8")
        return folder

    return make


def test_load_task_script_of_the_task_is_its_main_metric(make_scripted_task: Any) -> None:
    loaded = task.load_task(make_scripted_task("evaluate:./same.py"))
    assert loaded.has_corpus_values
    scores = loaded.corpus_scores(["reply 1", "answer 9"], [["answer 1", "reply 1"], ["answer 2"]])
    assert scores == {"evaluate:./same.py": 0.5}
    assert loaded.score("reply 1", ["reply 1"])["em"] == 1  # single answers keep their scores


def test_load_task_key_and_percent_select_the_value(make_scripted_task: Any) -> None:
    name = "evaluate:./same.py#same/100"
    folder = make_scripted_task(name, '{"same": 100 * share, "number": 3}')
    assert task.load_task(folder).corpus_scores(["a"], [["a"]]) == {name: 1.0}
    check_metric(name, folder=folder)


@pytest.mark.parametrize(
    ("metric", "values", "problem", "hint"),
    [
        ("evaluate:./same.py", '{"same": 100 * share}', "gives right answers 100", "write evaluate:./same.py/100"),
        ("evaluate:./same.py", '{"same": 2 * share - 3}', "gives right answers -1", "corpus_score"),
        ("evaluate:./same.py", '{"error": 1 - share}', "more must be better", "1 minus the error"),
        ("evaluate:./same.py", '{"a": 1.0, "b": 0.5}', "several values", "#KEY with one of: a, b"),
        ("evaluate:./same.py#same", '{"sane": share}', "no value 'same'", "did you mean 'sane'?"),
        ("evaluate:./same.py", '{"same": [share]}', "returns no number", "corpus_score"),
        ("evaluate:./same.py", "predictions.nope()", "fails on right answers", None),
    ],
)
def test_load_task_unusable_values_raise_with_hint(
    make_scripted_task: Any, metric: str, values: str, problem: str, hint: str | None
) -> None:
    with pytest.raises(UserError) as raised:
        task.load_task(make_scripted_task(metric, values))
    assert problem in raised.value.message
    assert hint is None or hint in (raised.value.hint or "")


def test_load_task_metric_of_one_reference_refuses_several(make_scripted_task: Any) -> None:
    with pytest.raises(UserError, match="takes one reference"):
        task.load_task(make_scripted_task("evaluate:./same.py", references="text"))


def test_load_task_metric_of_labels_as_numbers_raises(make_scripted_task: Any) -> None:
    with pytest.raises(UserError, match="does not compare texts with texts"):
        task.load_task(make_scripted_task("evaluate:./same.py", references='datasets.Value("int32")'))


def test_load_task_metric_neither_cached_nor_reachable_raises(
    make_scripted_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    with pytest.raises(UserError, match="cannot be loaded") as raised:
        task.load_task(make_scripted_task("evaluate:exact_match"))
    assert "evaluate:./FILE.py" in (raised.value.hint or "")


def test_digest_covers_the_script_only_where_the_card_names_it(make_scripted_task: Any) -> None:
    folder = make_scripted_task("evaluate:./same.py")
    named = task.digest_task(folder)
    (folder / "same.py").write_text("# other", "utf-8")
    assert task.digest_task(folder) != named
    card = folder / "task.yaml"
    card.write_text(card.read_text("utf-8").replace("evaluate:./same.py", "em"), "utf-8")
    unnamed = task.digest_task(folder)
    (folder / "same.py").unlink()
    assert task.digest_task(folder) == unnamed


def test_scripts_of_a_folder_are_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("a.py", "mine.py", "notes.txt"):
        (tmp_path / "mine" / name).write_text("", "utf-8")
    files = EvaluateMetric.parse("evaluate:./mine#x").scripts(tmp_path)
    assert [file.name for file in files] == ["mine.py", "a.py"]


def test_bench_run_metric_in_per_cent_exits_2(run_bench: Bench, make_scripted_task: Any) -> None:
    folder = make_scripted_task("evaluate:./same.py", '{"same": 100 * share}')
    result = run_bench("run", "--methods", "majority", "--task", str(folder), "--dry-run")
    assert result.returncode == 2
    assert "write evaluate:./same.py/100" in " ".join(result.stderr.split())


def test_bench_run_unknown_metric_exits_2(run_bench: Bench, make_task: MakeTask, tmp_path: Path) -> None:
    folder = make_task(tmp_path / "task", metric="rouge-L")
    result = run_bench("run", "--methods", "majority", "--task", str(folder), "--dry-run")
    assert result.returncode == 2
    assert "did you mean 'rouge-l'?" in result.stderr
