"""Metrics by a model: from the card of a task to the record, and what is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import MakeRecord, MakeTask
from support import run_worker, tiny_encoder

from bench.analysis.task_results import group_by_task
from bench.errors import UserError
from bench.execution.job import Job
from bench.execution.plan import plan_jobs
from bench.modeling.checkpoint import Checkpoint
from bench.records import Record, comparability
from bench.report.caveats import list_caveats


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("models") / "encoder").folder


def plan(task: Path, model: Path, methods: str = "majority") -> list[Job]:
    return plan_jobs(methods, str(task), str(model), seeds=1, budget_text="standard", settings=[], device="cpu")


def test_run_rates_all_answers_by_the_models_of_the_card(
    make_task: MakeTask, encoder: Path, lively: Checkpoint, tmp_path: Path
) -> None:
    metrics = [f"judge:{lively.folder}", "chrf"]
    task = make_task(tmp_path / "task", metric=f"similarity:{encoder}", metrics=metrics)
    rows = [json.loads(line) for line in (task / "test.jsonl").read_text("utf-8").splitlines()[:3]]
    shifted = [row | {"id": f"later-{row['id']}"} for row in rows]
    (task / "shifted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shifted), "utf-8")
    job = next(job for job in plan(task, lively.folder) if job.spec.method.name == "majority")
    (tmp_path / "job.json").write_text(job.model_dump_json(), "utf-8")
    (tmp_path / "new").mkdir()
    run_worker(tmp_path / "job.json", tmp_path / "new", tmp_path / "progress.json")
    (file,) = (tmp_path / "new").glob("*.json")
    record = Record.model_validate_json(file.read_text("utf-8"))
    assert record.status == "ok", record.error
    assert record.spec.task.metric == "similarity"
    for sample in record.samples:
        assert (sample.scores["similarity"] > 0.999) == (sample.scores["em"] == 1.0)
        assert sample.scores["judge"] in (0.0, 0.5, 1.0)
        assert {"em", "f1", "chrf"} <= {*sample.scores}
    # The shifted questions are the first of the test, so they are rated alike.
    assert record.shifted is not None
    assert [sample.scores for sample in record.shifted.samples] == [
        pytest.approx(sample.scores) for sample in [*record.samples][:3]
    ]
    assert record.rating_reports is not None
    report = record.rating_reports["judge"]
    whole = [sample.scores["judge"] != 0.5 for sample in record.samples]
    assert report["consistency"] == pytest.approx(sum(whole) / len(whole))
    agree = [(sample.scores["judge"] == 1.0) == (sample.scores["em"] == 1.0) for sample in record.samples]
    assert report["agreement_with_em"] == pytest.approx(sum(agree) / len(agree))
    assert record.rating_reports["similarity"].keys() == {"seconds"}
    assert record.cost is not None
    assert not {"rate", "judge", "similarity"} & {*record.cost.phases}  # the memory is that of other models


def test_models_of_metrics_are_terms_of_comparison(
    make_task: MakeTask, encoder: Path, lively: Checkpoint, tmp_path: Path
) -> None:
    other = tiny_encoder(tmp_path / "other", layer_norm_eps=1e-6).folder
    link = tmp_path / "task" / "model"
    task = make_task(tmp_path / "task", metrics=["similarity:./model"])
    specs = []
    for folder in (encoder, other):
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
        specs.append(plan(task, lively.folder)[0].spec)
    assert specs[0].id != specs[1].id
    assert [*comparability.differing_terms(*specs)] == ["task.metric_models"]


def test_run_id_without_models_of_metrics_does_not_depend_on_them(make_record: MakeRecord) -> None:
    spec = make_record().spec
    assert spec.task.metric_models is None
    assert spec.model_copy(update={"task": spec.task.model_copy(update={"metric_models": None})}).id == spec.id


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ("similarity", "'similarity' needs a model"),
        ("judge:", "'judge:' needs a model"),
        ("similarity:no-such-model", "no-such-model"),
        ("similarity:DECODER", "'similarity' cannot use the model"),
        ("judge:ENCODER", "'judge' cannot use the model"),
        ("similarty:ENCODER", "there is no score"),
    ],
)
@pytest.mark.parametrize("key", ["metric", "metrics"])
def test_plan_metric_without_usable_model_raises(
    make_task: MakeTask, key: str, metric: str, problem: str, encoder: Path, lively: Checkpoint, tmp_path: Path
) -> None:
    name = metric.replace("ENCODER", str(encoder)).replace("DECODER", str(lively.folder))
    task = make_task(tmp_path / "task", **{key: name if key == "metric" else [name]})
    with pytest.raises(UserError, match=problem) as raised:
        plan(task, lively.folder)
    assert raised.value.hint


def test_plan_two_models_of_one_metric_raise(
    make_task: MakeTask, encoder: Path, lively: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "copy").symlink_to(encoder)
    task = make_task(tmp_path / "task", metrics=[f"similarity:{encoder}", f"similarity:{tmp_path / 'copy'}"])
    with pytest.raises(UserError, match="named twice"):
        plan(task, lively.folder)


def test_caveats_say_what_a_judge_is(make_record: MakeRecord) -> None:
    models = {"judge": {"ref": "models/small-judge", "sha256": "a" * 64, "rubric_sha256": "b" * 64}}
    reports = [{"judge": {"consistency": 0.5, "agreement_with_em": 0.7}}, {"judge": {"consistency": 0.7}}]
    records = [
        make_record(seed=seed, task__metric_models=models, rating_reports=report) for seed, report in enumerate(reports)
    ]
    (results,) = group_by_task(records)
    (sentence,) = [caveat for caveat in list_caveats(results) if "judge" in caveat]
    assert sentence == ("judge is the model small-judge: its verdicts in both orders agree on 60 % of the answers.")
    both = make_record(task__metric_models=models, rating_reports=reports[0])
    (results,) = group_by_task([both])
    (sentence,) = [caveat for caveat in list_caveats(results) if "judge" in caveat]
    assert sentence.endswith("agree on 50 % of the answers, and with em on 70 %.")
    assert json.loads(both.to_json())["rating_reports"] == reports[0]
