"""`bench check` and `bench bless`: regressions fail, missing evidence is reported, and nothing else passes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy
import pytest
import yaml
from conftest import CODE, Bench, MakeLabelRecord, MakeRecord
from markdown_it import MarkdownIt

from bench import i18n
from bench.analysis.regression import baseline, gates
from bench.analysis.regression.check import CheckOutcome, check_against_baseline, judge_records
from bench.analysis.regression.gates import GateFinding, Policy
from bench.analysis.regression.pairing import RecordPair
from bench.analysis.regression.score_drop import ChangedPair, ScoreDrop, judge_drops
from bench.analysis.seed_variance import NO_PRIOR
from bench.errors import UserError
from bench.measurement import environment
from bench.records import Record, Samples
from bench.report import check_output

N_QUESTIONS = 500
MakeRun = Callable[..., Record]


@pytest.fixture
def make_run(make_record: MakeRecord) -> MakeRun:
    """One run; `drop` is the share of questions that become wrong, and `redraw` changes the random part of answers."""

    def make(name: str = "lora", seed: int = 0, drop: float = 0.0, redraw: int = 0, **changes: Any) -> Record:
        template = make_record(name, items=N_QUESTIONS, seed=seed, **changes)
        difficulty = numpy.random.default_rng(0).random(N_QUESTIONS)
        noise = numpy.random.default_rng([seed, redraw, *name.encode()]).standard_normal(N_QUESTIONS)
        is_right = difficulty + 0.1 * noise < 0.6
        is_right &= numpy.random.default_rng([7, *name.encode()]).random(N_QUESTIONS) >= drop / 0.6
        samples = Samples.from_list(
            [
                sample.model_copy(
                    update={"scores": {"em": float(right), "f1": float(right)}, "raw": f"{right} {redraw} {drop}"}
                )
                for sample, right in zip(template.samples, is_right, strict=True)
            ]
        )
        return template.model_copy(
            update={"samples": samples, "scores": dict.fromkeys(("em", "f1"), float(is_right.mean()))}
        )

    return make


def make_suite(make_run: MakeRun, n_methods: int = 3, n_seeds: int = 3, **changes: Any) -> list[Record]:
    return [make_run(f"m{number}", seed, **changes) for number in range(n_methods) for seed in range(n_seeds)]


def check(old: list[Record], new: list[Record], **policy: Any) -> CheckOutcome:
    return judge_records(old, new, Policy(**policy))


def with_cost(record: Record, part: str, **fields: Any) -> Record:
    """A copy of a record with other fields in one part of its cost."""
    assert record.cost is not None
    changed_part = getattr(record.cost, part).model_copy(update=fields)
    return record.model_copy(update={"cost": record.cost.model_copy(update={part: changed_part})})


def failed_run(make_record: MakeRecord, status: str, message: str = "no tea") -> Record:
    error = {"kind": "K", "message": message, "trace": None}
    return make_record("lora", status=status, scores={}, samples=[], cost=None, error=error)


def write_all(records: list[Record], folder: Path) -> Path:
    for record in records:
        record.write(folder)
    return folder


def commit_all() -> None:
    """Commit all files of the current folder to a new git repository."""
    for arguments in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm one"):
        subprocess.run(["git", *arguments.split()], check=True)


def test_check_equal_records_passes_without_test(make_run: MakeRun) -> None:
    outcome = check(make_suite(make_run), make_suite(make_run))
    assert (outcome.exit_code, outcome.summary) == (0, "No regressions: all answers are unchanged.")
    assert {finding.details for finding in outcome.findings if finding.gate == "em"} == {"all answers are unchanged"}


def test_check_different_answers_equally_good_passes(make_run: MakeRun) -> None:
    assert check(make_suite(make_run), make_suite(make_run, redraw=1)).exit_code == 0


def test_check_drop_in_one_method_fails_and_names_it(make_run: MakeRun) -> None:
    new = [make_run(f"m{number}", seed, drop=0.08 if number == 1 else 0) for number in range(3) for seed in range(3)]
    outcome = check(make_suite(make_run), new)
    assert outcome.exit_code == 1
    worse = {finding.name for finding in outcome.with_verdict("worse") if finding.gate == "em"}
    assert worse == {"feelings · bookworm · m1"}
    assert "m1" in outcome.summary


def test_check_small_drop_of_all_methods_fails_by_common_shift(make_run: MakeRun) -> None:
    old = make_suite(make_run, n_methods=16, n_seeds=1)
    new = make_suite(make_run, n_methods=16, n_seeds=1, drop=0.015, redraw=1)
    old, new = ([with_cost(record, "parameters", trainable=0) for record in records] for records in (old, new))
    outcome = check(old, new)
    assert outcome.exit_code == 1
    assert [finding.gate for finding in outcome.with_verdict("worse")] == ["common shift"]


def test_check_missing_run_cannot_tell(make_run: MakeRun) -> None:
    old = make_suite(make_run)
    assert check(old, old[1:]).exit_code == 3
    outcome = check(old, [record for record in old if record.spec.method.name != "m1"])
    assert outcome.exit_code == 3
    assert [finding.name for finding in outcome.with_verdict("missing")] == ["feelings · bookworm · m1"]


def test_check_changed_task_is_incomparable_and_names_field(make_run: MakeRun) -> None:
    outcome = check([make_run()], [make_run(task__sha256="f" * 64)])
    assert outcome.exit_code == 3
    (finding,) = outcome.with_verdict("incomparable")
    assert finding.details == f"task.sha256: {'a' * 8}… → {'f' * 8}…"


def test_check_changed_hyper_parameter_is_incomparable_and_named(make_run: MakeRun) -> None:
    outcome = check([make_run()], [make_run(method__params={"rank": 8, "lr": 2e-3})])
    assert [finding.details for finding in outcome.with_verdict("incomparable")] == ["lora.rank: 16 → 8"]


def test_check_status_change_is_worse_or_better(make_run: MakeRun, make_record: MakeRecord) -> None:
    failed = failed_run(make_record, "did-not-fit", "wanted 9 GiB")
    outcome = check([make_run()], [failed])
    assert outcome.exit_code == 1
    assert outcome.with_verdict("worse")[0].details == "seed 0: ok → did-not-fit: wanted 9 GiB"
    recovered = check([failed], [make_run()])
    assert [finding.verdict for finding in recovered.findings if finding.gate == "status"] == ["better"]


def test_check_improvement_passes_and_suggests_bless(make_run: MakeRun) -> None:
    outcome = check(make_suite(make_run, drop=0.08), make_suite(make_run))
    assert outcome.exit_code == 0
    assert outcome.summary.startswith("No regressions. Improved: ")
    assert "Run `bench bless` to update the baseline." in outcome.summary


def test_check_trained_method_with_two_seeds_is_unsure(make_run: MakeRun) -> None:
    outcome = check(make_suite(make_run, n_seeds=2), make_suite(make_run, n_seeds=2, redraw=1))
    assert outcome.exit_code == 3
    assert {finding.gate for finding in outcome.with_verdict("unsure")} == {"em"}


def with_env(record: Record, **fields: Any) -> Record:
    env = environment.describe_environment("2026-11-21T00:00:00+00:00", "c" * 64, "NVIDIA H200", 0.0)
    return record.model_copy(update={"env": env.model_copy(update=fields)})


@pytest.mark.parametrize(
    ("deterministic", "drop", "exit_code"), [(False, 0.0, 0), (True, 0.0, 3), (None, 0.0, 3), (False, 0.1, 3)]
)
def test_check_few_seeds_that_are_not_deterministic_have_tolerance(
    make_run: MakeRun, deterministic: bool | None, drop: float, exit_code: int
) -> None:
    old, new = make_run(), make_run(drop=drop, redraw=1)
    if not drop:  # other answers with equal scores
        samples = [sample.model_copy(update={"raw": f"{sample.raw} again"}) for sample in old.samples]
        new = old.model_copy(update={"samples": Samples.from_list(samples)})
    outcome = check([with_env(old, deterministic=None)], [with_env(new, deterministic=deterministic)])
    assert outcome.exit_code == exit_code
    if exit_code == 0:
        assert outcome.summary.endswith("within the tolerance of runs that are not deterministic.")


def test_check_one_unsure_method_cannot_tell_despite_unchanged_one(make_run: MakeRun) -> None:
    unchanged = with_cost(make_run("majority"), "parameters", trainable=0)
    assert check([make_run(seed=0), unchanged], [make_run(seed=0, drop=0.1), unchanged]).exit_code == 3


def test_check_one_method_with_two_budgets_is_two_runs(make_run: MakeRun) -> None:
    runs = [(size, seed) for size in (50, 100) for seed in range(3)]
    old = [make_run(seed=seed, budget__examples=size) for size, seed in runs]
    new = [make_run(seed=seed, budget__examples=size, drop=0.1 if size == 50 else 0) for size, seed in runs]
    outcome = check(old, new)
    assert outcome.exit_code == 1
    worse = {finding.name for finding in outcome.with_verdict("worse")}
    assert worse == {"feelings · bookworm · lora budget.examples=50"}


def test_check_equal_answers_with_different_scores_fail(make_run: MakeRun) -> None:
    old = make_run()
    all_wrong = Samples.from_list([sample.model_copy(update={"scores": {"em": 0.0}}) for sample in old.samples])
    new = old.model_copy(update={"samples": all_wrong, "scores": {"em": 0.0}})
    assert "equal answers have different scores" in check([old], [new]).with_verdict("worse")[0].details
    assert [finding.verdict for finding in check([new], [old]).findings if finding.gate == "em"] == ["better"]


def test_check_different_or_no_questions_cannot_tell(make_run: MakeRun) -> None:
    old = make_run()
    assert check([old], [old.model_copy(update={"samples": old.samples[1:]})]).exit_code == 3
    without_samples = old.model_copy(update={"samples": Samples.from_list(())})
    assert check([without_samples], [without_samples]).exit_code == 3


def test_check_new_error_is_worse_and_new_run_is_shown(make_run: MakeRun, make_record: MakeRecord) -> None:
    unfit = failed_run(make_record, "did-not-fit", "\x1b[31mno tea")
    crashed = failed_run(make_record, "error", "\x1b[31mno tea")
    outcome = check([unfit, make_run("m0")], [crashed, make_run("m0")])
    assert outcome.exit_code == 1
    ElementTree.fromstring(check_output.to_junit(outcome))
    (new,) = check([make_run("m0")], [make_run("m0"), crashed]).with_verdict("new")
    assert new.details == "not in the baseline: error"


def test_detectable_drop_is_detected_with_promised_power() -> None:
    """Four times in five, or about so."""
    rng, detected = numpy.random.default_rng(5), 0
    samples = [rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(1, 500)) for _ in range(150)]
    for differences in samples:
        smallest_drop = ScoreDrop("a", "em", differences, NO_PRIOR, 0.01).detectable_drop(0.05)
        dropped = differences - (rng.random(500) < smallest_drop)
        detected += ScoreDrop("a", "em", dropped, NO_PRIOR, 0.01).p_value < 0.05
    assert 0.6 < detected / 150 < 0.95


def test_check_no_records_cannot_tell() -> None:
    assert check([], []).exit_code == 3


@pytest.mark.parametrize(
    ("part", "fields"),
    [("parameters", {"trainable": 4_001}), ("budget_usage", {"steps": 2}), ("budget_usage", {"tokens": 98})],
)
def test_check_changed_count_fails(make_run: MakeRun, part: str, fields: dict[str, int]) -> None:
    outcome = check([make_run()], [with_cost(make_run(), part, **fields)])
    (finding,) = outcome.with_verdict("worse")
    assert (outcome.exit_code, finding.gate) == (1, "counts")
    assert next(iter(fields)) in finding.details


@pytest.mark.parametrize("name", ["budget_usage.no_such_field", "no_such_part.steps"])
def test_check_unknown_count_field_raises(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A field that is renamed in the record must not drop out of the check unnoticed."""
    monkeypatch.setattr(gates, "COUNT_FIELDS", (name,))
    with pytest.raises(AttributeError, match="no_such"):
        check([make_run()], [make_run()])


@pytest.mark.parametrize("name", gates.COUNT_FIELDS)
def test_check_every_count_field_is_compared(make_run: MakeRun, name: str) -> None:
    part, field = name.split(".")
    outcome = check([make_run()], [with_cost(make_run(), part, **{field: 1_234})])
    assert [finding.gate for finding in outcome.with_verdict("worse")] == ["counts"]
    assert f"{name}: " in outcome.with_verdict("worse")[0].details


def test_check_steps_under_time_budget_are_not_compared(make_run: MakeRun) -> None:
    old = make_run(budget__seconds=60)
    assert check([old], [with_cost(old, "budget_usage", steps=2)]).exit_code == 0


def test_check_larger_artifact_fails(make_run: MakeRun) -> None:
    new = make_run()
    assert new.cost is not None
    larger = new.model_copy(update={"cost": new.cost.model_copy(update={"artifact_bytes": 2_100})})
    assert [finding.gate for finding in check([make_run()], [larger]).with_verdict("worse")] == ["artifact"]
    assert check([make_run()], [larger], artifact=0.05).exit_code == 0


def test_check_memory_growth_is_shown_on_cpu_and_fails_on_gpu(make_run: MakeRun) -> None:
    for device, verdict in (("cpu", "shown"), ("NVIDIA H200", "worse")):
        env = {
            "started": "2026-01-01", "adaptbench": "0", "revision": None, "method_sha256": "0", "python": "3.11",
            "platform": "Linux", "processor": "P", "cores": 2, "threads": 2, "memory_mib": 9, "device": device,
            "background_cores": 0, "packages": {},
        }  # fmt: skip
        old = make_run(env=env)
        assert old.cost is not None
        fit = old.cost.phases["fit"].model_copy(update={"peak_mib": 900.0})
        cost = old.cost.model_copy(update={"phases": old.cost.phases | {"fit": fit}})
        outcome = check([old], [old.model_copy(update={"cost": cost})])
        (finding,) = [finding for finding in outcome.findings if finding.gate == "memory"]
        assert (finding.verdict, finding.details) == (verdict, "fit: 700 → 900 MiB")


def test_judge_drops_unchanged_methods_rarely_fail(make_record: MakeRecord) -> None:
    """Sixteen trained methods with new seeds and no drop: at most 6 of 100 checks fail."""
    template = make_record("lora", items=2)
    false_alarms, n_rounds, rng = 0, 150, numpy.random.default_rng(3)
    for _ in range(n_rounds):
        easiness = rng.random(300)
        changed = []
        for number in range(16):
            old, new = (
                (rng.random((3, 300)) < easiness + 0.02 * rng.standard_normal((3, 1))).astype(float) for _ in range(2)
            )
            pair = RecordPair("t", "m", f"m{number}", (template,), (template,), {})
            changed.append(ChangedPair(pair, new - old))
        false_alarms += any(finding.verdict == "worse" for finding in judge_drops(changed, changed, Policy()))
    assert false_alarms / n_rounds <= 0.06


def test_to_markdown_puts_worst_first_and_folds_unchanged(make_run: MakeRun) -> None:
    new = [make_run(f"m{number}", seed, drop=0.08 if number == 2 else 0) for number in range(3) for seed in range(3)]
    text = check_output.to_markdown(check(make_suite(make_run), new))
    assert text.index("❌") < text.index("<details>")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert html.count("<table>") == 2


def test_findings_in_korean_are_korean_but_json_and_junit_stay_english(make_run: MakeRun) -> None:
    suite = make_suite(make_run)
    outcome = check(suite, suite[:-1])
    korean = i18n.translator("ko")
    page = check_output.to_markdown(outcome, korean)
    assert page.startswith("### bench check: 판단 불가: ")
    assert "| ❓ 없음 |" in page and "새 기록이 없음 |" in page and "| ✅ 같음 |" in page
    table = check_output.findings_table(outcome, translate=korean)
    assert [column.header for column in table.columns] == ["판정", "방법", "검사 항목", "내용"]
    (missing,) = outcome.with_verdict("missing")
    document = json.loads(missing.model_dump_json())
    assert (document["verdict"], document["gate"]) == ("missing", "run")
    assert document["details"].endswith("in the baseline, but no new record")
    assert 'type="missing"' in check_output.to_junit(outcome)


def test_to_junit_is_valid_xml_with_correct_counts(make_run: MakeRun) -> None:
    new = make_suite(make_run, drop=0.08)[1:]
    root = ElementTree.fromstring(check_output.to_junit(check(make_suite(make_run), new)))
    assert sum(int(suite.attrib["failures"]) for suite in root) == len(root.findall(".//failure")) > 0
    assert sum(int(suite.attrib["errors"]) for suite in root) == len(root.findall(".//error")) == 1


def test_check_command_exit_codes(make_run: MakeRun, run_bench: Bench, tmp_path: Path) -> None:
    write_all(make_suite(make_run), tmp_path / "old")
    write_all(make_suite(make_run), tmp_path / "same")
    write_all(make_suite(make_run, drop=0.08), tmp_path / "worse")
    write_all(make_suite(make_run)[:-1], tmp_path / "less")
    write_all(make_suite(make_run), tmp_path / "all" / "base")
    (tmp_path / "same" / "folder.json").mkdir()
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "x.json").write_text('{"schema": 0}')
    (tmp_path / "empty").mkdir()
    for new, options, exit_code in (
        ("same", ["--baseline", "old"], 0),
        ("worse", ["--baseline", "old"], 1),
        ("less", ["--baseline", "old"], 3),
        ("older", ["--baseline", "old"], 2),
        ("same", ["--baseline", "older"], 2),
        ("same", ["--unknown"], 2),
        ("same", ["--baseline", "empty"], 3),
        ("empty", ["--baseline", "old"], 3),
        ("empty", ["--baseline", "old", "--allow-missing-baseline"], 3),
        ("nowhere", ["--baseline", "old"], 2),
        ("all", ["--baseline", "all/base"], 2),
        ("same", ["--baseline", "old", "--junit", "nowhere/a.xml"], 2),
        ("same", ["--baseline", "nowhere"], 3),
        ("same", ["--baseline", "nowhere", "--allow-missing-baseline"], 0),
        ("less", ["--baseline", "old", "--allow-missing-baseline"], 3),
    ):
        completed = run_bench("check", new, *options)
        assert completed.returncode == exit_code, (new, options, completed.stdout, completed.stderr)
    assert run_bench("compare", "old", "worse").returncode == 0
    files = ["--markdown", "a.md", "--junit", "a.xml"]
    completed = run_bench("check", "worse", "--baseline", "old", *files, "--format", "json")
    assert json.loads(completed.stdout.splitlines()[-1])["code"] == 1
    assert "❌" in (tmp_path / "a.md").read_text("utf-8")
    ElementTree.parse(tmp_path / "a.xml")
    step_summary = tmp_path / "summary.md"
    run_bench("check", "same", "--baseline", "old", GITHUB_STEP_SUMMARY=str(step_summary))
    assert "No regressions" in step_summary.read_text("utf-8")


def test_reading_commands_import_no_learning_library(
    make_run: MakeRun, tmp_path: Path, environment: dict[str, str]
) -> None:
    write_all(make_suite(make_run), tmp_path / "old")
    code = """
import sys
from bench.cli import app
for words in (["check", "old", "--baseline", "old"], ["compare", "old", "old"], ["advise", "old"], ["report", "old"]):
    try:
        app(words)
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)
    assert not {"torch", "transformers", "peft", "trl", "datasets"} & set(sys.modules), words
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_check_command_policy_is_used_and_invalid_one_raises(
    make_run: MakeRun, run_bench: Bench, tmp_path: Path
) -> None:
    write_all(make_suite(make_run), tmp_path / "old")
    write_all(make_suite(make_run, drop=0.08), tmp_path / "new")
    (tmp_path / "pyproject.toml").write_text("[tool.bench.check]\nmax_score_drop = 0.5\nlevel = 0.0001\n")
    completed = run_bench("check", "new", "--baseline", "old")
    assert "common shift" in completed.stdout
    assert [line for line in completed.stdout.splitlines() if "em" in line and "worse" in line] == []
    for text, message in (
        ("[tool.bench.check]\nmax_scoredrop = 0.5\n", "[tool.bench.check] max_scoredrop"),
        ("[tool.bench.check]\nmax_score_drop = 5\n", "[tool.bench.check] max_score_drop"),
        ("[tool.bench.check]\nmax_score_drop = true\n", "[tool.bench.check] max_score_drop"),
        ('[tool]\nbench = "x"\n', "'bench' is not a table"),
        ("[tool", "invalid TOML"),
    ):
        (tmp_path / "pyproject.toml").write_text(text)
        completed = run_bench("check", "new", "--baseline", "old")
        assert (completed.returncode, message in completed.stderr) == (2, True), completed.stderr


def test_bless_command_needs_reason_and_keeps_it(make_run: MakeRun, run_bench: Bench, tmp_path: Path) -> None:
    write_all(make_suite(make_run), tmp_path / "new")
    assert run_bench("bless", "new", "--into", "base").returncode == 2
    assert run_bench("bless", "new", "--into", "base", "--reason", " ").returncode == 2
    assert run_bench("bless", "new", "--into", "base", "--reason", "first one").returncode == 0
    write_all([make_run("m0", method__params={"rank": 2})], tmp_path / "other")
    assert run_bench("bless", "other", "--into", "base", "--reason", "rank 2").returncode == 0
    records = [Record.read(file) for file in (tmp_path / "base").glob("*.json")]
    assert sorted(record.spec.method.name for record in records) == ["m0", "m1", "m1", "m1", "m2", "m2", "m2"]
    reasons = (tmp_path / "base" / "BLESSED.md").read_text("utf-8")
    assert reasons.index("first one") < reasons.index("rank 2")


def test_bless_baseline_invalid_record_leaves_all_files(make_run: MakeRun, tmp_path: Path) -> None:
    write_all(make_suite(make_run), tmp_path)
    (tmp_path / "zz.json").write_text('{"schema": 0}')
    with pytest.raises(UserError, match="not a valid record"):
        baseline.bless_baseline(make_suite(make_run), tmp_path, "again")
    assert len(list(tmp_path.glob("*.json"))) == 10


@pytest.mark.parametrize("id", ["../victim/precious", "", "{tmp}/victim/precious"])
def test_bless_command_foreign_id_deletes_nothing(make_run: MakeRun, run_bench: Bench, tmp_path: Path, id: str) -> None:
    precious = tmp_path / "victim" / "precious"
    precious.mkdir(parents=True)
    file = make_run().write(tmp_path / "new")
    content = json.loads(file.read_text("utf-8")) | {"id": id.replace("{tmp}", str(tmp_path))}
    file.write_text(json.dumps(content), "utf-8")
    (tmp_path / "base").mkdir()
    completed = run_bench("bless", "new", "--into", "base", "--reason", "a record from elsewhere")
    assert (completed.returncode, "is not that of the settings" in completed.stderr) == (2, True), completed.stderr
    assert precious.is_dir()
    assert not list((tmp_path / "base").iterdir())


def test_bless_baseline_above_the_new_records_raises(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run()
    file = record.write(tmp_path / "results" / "ci")
    with pytest.raises(UserError, match="which would be deleted"):
        baseline.bless_baseline([record], tmp_path / "results", "one level too high")
    assert file.is_file()


def test_bless_baseline_folder_that_is_a_file_raises(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("full").write(tmp_path)
    (tmp_path / "taken").write_text("{}")
    for into in ("taken", "taken/base"):
        with pytest.raises(UserError):
            baseline.bless_baseline([make_run()], tmp_path / into, "the first")


def test_bless_baseline_failed_run_raises(make_record: MakeRecord, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="failed runs cannot be a baseline"):
        baseline.bless_baseline([failed_run(make_record, "error")], tmp_path, "why not")


def test_load_baseline_git_revision_has_blessed_records(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    default = baseline.DEFAULT_BASELINE
    baseline.bless_baseline([make_record("lora")], default, "the first")
    commit_all()
    for reference in ("HEAD", "HEAD:results/baselines/ci", "HEAD:results/baselines/ci/", str(default)):
        assert [record.spec.method.name for record in baseline.load_baseline(reference)] == ["lora"]


def test_load_baseline_git_revision_skips_links_and_unknown_one_raises(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_all(make_suite(make_run), tmp_path / baseline.DEFAULT_BASELINE)
    (folder / "link.json").symlink_to("/etc/hostname")
    commit_all()
    assert len(baseline.load_baseline("HEAD")) == len(baseline.load_baseline("HEAD:results")) == 9
    assert baseline.has_records("HEAD")
    assert not baseline.has_records("nowhere")
    assert not baseline.has_records("HEAD:nowhere")
    with pytest.raises(UserError, match="no such file, folder or git revision"):
        baseline.has_records("no/where")
    for reference in ("nowhere", "HEAD:nowhere"):
        with pytest.raises(UserError, match=reference.split(":")[-1]):
            baseline.load_baseline(reference)


def write_content(content: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(content), "utf-8")


def zero_scores(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a record file with all scores 0."""
    samples = [sample | {"scores": dict.fromkeys(sample["scores"], 0.0)} for sample in content["samples"]]
    return content | {"samples": samples, "scores": dict.fromkeys(content["scores"], 0.0)}


def damage_scores(content: dict[str, Any], damage: str) -> None:
    """Make a record file claim scores that its answers do not have."""
    samples = content["samples"]
    if damage == "sample of 500":
        samples[0]["scores"]["em"] = 500.0
    elif damage == "scores of NaN":
        content["scores"]["em"] = float("nan")
    elif damage == "other mean":
        content["scores"]["em"] += 0.01
    elif damage == "no mean":
        del content["scores"]["em"]
    elif damage == "sample without metric":
        del samples[0]["scores"]["em"]
    elif damage == "repeated sample":
        samples.append(samples[0])
    elif damage == "no samples":
        samples.clear()
    elif damage == "neither scores nor samples":
        samples.clear()
        content["scores"] = {}


@pytest.mark.parametrize(
    "damage",
    [
        "sample of 500", "scores of NaN", "other mean", "no mean", "sample without metric", "repeated sample",
        "no samples", "neither scores nor samples",
    ],
)  # fmt: skip
def test_check_record_with_damaged_scores_is_refused(make_record: MakeRecord, tmp_path: Path, damage: str) -> None:
    for folder in ("old", "new"):
        file = make_record().write(tmp_path / folder)
    content = json.loads(file.read_text("utf-8"))
    damage_scores(content, damage)
    write_content(content, file)
    with pytest.raises(UserError) as refused:
        check_against_baseline(str(tmp_path / "new"), str(tmp_path / "old"), False)
    assert refused.value.location == str(file)


def test_check_second_record_of_a_run_is_refused(make_record: MakeRecord, tmp_path: Path) -> None:
    for folder in ("old", "new"):
        file = make_record().write(tmp_path / folder)
    worse = zero_scores(json.loads(file.read_text("utf-8")))
    write_content(worse, file.with_name("zz.json"))
    with pytest.raises(UserError, match="two different records"):
        check_against_baseline(str(tmp_path / "new"), str(tmp_path / "old"), False)
    write_content(worse | {"id": "zz"}, file.with_name("zz.json"))
    with pytest.raises(UserError, match="is not that of the settings"):
        check_against_baseline(str(tmp_path / "new"), str(tmp_path / "old"), False)
    with pytest.raises(UserError, match="two records of the run"):
        check([make_record()], [make_record(), make_record(em=0.0)])


@pytest.mark.parametrize("change", [{"method__params": {"rank": 1}}, {"budget__epochs": 9}], ids=str)
def test_check_changed_setting_beside_old_records_cannot_tell(make_run: MakeRun, change: dict[str, Any]) -> None:
    """Records of the old code in the same folder must not hide what the changed code makes."""
    old = [make_run(seed=seed) for seed in range(3)]
    outcome = check(old, [*old, make_run(drop=0.5, **change)])
    assert outcome.exit_code == 3
    assert len(outcome.with_verdict("incomparable")) == 1


def test_check_new_method_and_further_seed_are_shown(make_run: MakeRun) -> None:
    old = [make_run(seed=seed) for seed in range(3)]
    outcome = check(old, [*old, make_run(seed=3), make_run("full")])
    assert outcome.exit_code == 0
    new = {finding.details for finding in outcome.with_verdict("new")}
    assert new == {"seed 3 not in the baseline: ok", "not in the baseline: ok"}


@pytest.mark.parametrize("kind", ["link", "hard link", "linked folder"])
def test_check_link_to_the_baseline_is_refused(make_record: MakeRecord, tmp_path: Path, kind: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    file = make_record().write(old)
    if kind == "linked folder":
        new.symlink_to(old)
    else:
        new.mkdir()
        (new / file.name).hardlink_to(file) if kind == "hard link" else (new / file.name).symlink_to(file)
    with pytest.raises(UserError, match="same file as"):
        check_against_baseline(str(new), str(old), False)


def with_answers(record: Record, raw: str, scores: list[float], first: int = 0) -> Record:
    """A record whose answers from `first` on are others, with these scores."""
    samples = list(record.samples)
    for index, score in enumerate(scores, first):
        samples[index] = samples[index].model_copy(update={"raw": raw, "scores": {"em": score, "f1": score}})
    mean = float(numpy.mean([sample.scores["em"] for sample in samples]))
    changes = {"samples": Samples.from_list(samples), "scores": {"em": mean, "f1": mean}}
    return record.model_copy(update=changes)


def test_check_lower_score_of_an_unchanged_answer_fails(make_run: MakeRun) -> None:
    """Also if another answer has changed, or if other scores are higher."""
    old = [with_answers(make_run(seed=seed), "x", [1.0, 0.0, 0.0]) for seed in range(3)]
    new = [with_answers(old[0], "x", [0.0, 1.0, 1.0]), *old[1:]]
    assert [finding.gate for finding in check(old, new).with_verdict("worse")] == ["em"]
    new[1] = with_answers(new[1], "another", [0.0], first=9)
    assert [finding.gate for finding in check(old, new).with_verdict("worse")] == ["em"]
    old[0] = with_answers(old[0], "changed too", [1.0])
    assert not check(old, [new[0], *old[1:]]).with_verdict("worse")


def test_check_one_collapsed_seed_cannot_tell(make_run: MakeRun) -> None:
    old = [make_run(seed=seed) for seed in range(3)]
    outcome = check(old, [*old[:2], with_answers(old[2], "?", [0.0] * N_QUESTIONS)])
    assert outcome.exit_code == 3
    assert outcome.with_verdict("unsure")[0].details.startswith("seed 2: -")
    assert check(old, [*old[:2], with_answers(old[2], "?", [0.0] * 20)]).exit_code == 0


def test_check_template_starts_from_an_empty_folder() -> None:
    steps = yaml.safe_load((CODE / "docs" / "bench-check.yml").read_text("utf-8"))["jobs"]["check"]["steps"]
    (run,) = [step["run"] for step in steps if "bench run" in step.get("run", "")]
    folder = run.partition("--out ")[2].split()[0]
    assert run.splitlines()[0] == f"rm -rf {folder}"


def test_check_outputs_hostile_texts_stay_text() -> None:
    name, details = "\x1b[31m|*a*", "\x00\x1b]0;x\x07 <b>"
    finding = GateFinding(name=name, gate="g\x1b", verdict="worse", details=details)
    outcome = CheckOutcome((finding,))
    root = ElementTree.fromstring(check_output.to_junit(outcome))
    assert [suite.get("name") for suite in root] == [r"\u001b[31m|*a*"]
    page = MarkdownIt("commonmark").enable("table").render(check_output.to_markdown(outcome))
    assert "\x1b" not in page and "<em>" not in page and "<b>" not in page
    assert r"\u001b[31m|*a*" in page


def label_suite(make_label_record: MakeLabelRecord, *, loses_rare_label: bool, **changes: Any) -> list[Record]:
    """Three seeds that answer 90 % right; with a rare label lost, as many other answers are right instead."""
    labels, records = ("common", "other", "rare"), []
    references = [labels[2 if number % 20 == 0 else number % 2] for number in range(N_QUESTIONS)]
    rare = [number for number, reference in enumerate(references) if reference == "rare"]
    frequent = [number for number, reference in enumerate(references) if reference != "rare"]
    for seed in range(3):
        rng = numpy.random.default_rng([seed, loses_rare_label])
        n_lost = 20 if loses_rare_label else 2
        wrong = {*rng.choice(rare, n_lost, replace=False), *rng.choice(frequent, 50 - n_lost, replace=False)}
        answers = [
            "common" if number in wrong and reference != "common" else "other" if number in wrong else reference
            for number, reference in enumerate(references)
        ]
        records.append(make_label_record("lora", labels, references, answers, seed=seed, **changes))
    return records


@pytest.mark.parametrize("metric", ["em", "macro-f1"])
def test_check_fall_of_macro_f1_alone_fails(make_label_record: MakeLabelRecord, metric: str) -> None:
    old = label_suite(make_label_record, loses_rare_label=False, task__metric=metric)
    new = label_suite(make_label_record, loses_rare_label=True, task__metric=metric)
    assert {record.scores["em"] for record in (*old, *new)} == {0.9}
    outcome = check(old, new)
    assert {finding.gate for finding in outcome.with_verdict("worse")} == {"macro-f1"}
    assert outcome.exit_code == 1
    assert check(new, old).exit_code == 0


@pytest.mark.parametrize("metric", ["em", "macro-f1", "mcc"])
def test_check_equal_labels_passes_without_test(make_label_record: MakeLabelRecord, metric: str) -> None:
    records = label_suite(make_label_record, loses_rare_label=False, task__metric=metric)
    outcome = check(records, records)
    assert (outcome.exit_code, outcome.summary) == (0, "No regressions: all answers are unchanged.")


def test_check_one_changed_answer_leaves_equal_answers_alone(make_label_record: MakeLabelRecord) -> None:
    labels, references = ("a", "b"), ["a", "b"] * 100
    changed = ["b", *references[1:]]
    old, new = (
        [make_label_record("nearest", labels, references, answers, task__metric="macro-f1", cost=None)]
        for answers in (references, changed)
    )
    assert not any("equal answers" in finding.details for finding in check(old, new).findings)
