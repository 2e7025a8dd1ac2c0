"""The gate: it fails for what is worse, says so where it cannot tell, and passes for nothing else."""

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
from conftest import Bench, MakeRecord
from markdown_it import MarkdownIt

from bench.analysis.regression import baseline
from bench.analysis.regression.check import CheckOutcome, judge_records
from bench.analysis.regression.gates import Policy
from bench.errors import UserError
from bench.records.record import Record
from bench.records.samples import Samples
from bench.report import check_output

ITEMS = 500
Run = Callable[..., Record]


@pytest.fixture
def run(make_record: MakeRecord) -> Run:
    """One run; `fallen` of its right answers are wrong now, `own` draws which answers are right anew."""

    def make(name: str = "lora", seed: int = 0, fallen: float = 0.0, own: int = 0, **changes: Any) -> Record:
        made = make_record(name, items=ITEMS, seed=seed, **changes)
        hard = numpy.random.default_rng(0).random(ITEMS)
        luck = numpy.random.default_rng([seed, own, *name.encode()])
        right = hard + 0.1 * luck.standard_normal(ITEMS) < 0.6
        right &= numpy.random.default_rng([7, *name.encode()]).random(ITEMS) >= fallen / 0.6
        samples = Samples.from_list(
            [
                sample.model_copy(
                    update={"scores": {"em": float(good), "f1": float(good)}, "raw": f"{good} {own} {fallen}"}
                )
                for sample, good in zip(made.samples, right, strict=True)
            ]
        )
        return made.model_copy(update={"samples": samples, "scores": {"em": float(right.mean())}})

    return make


def suite(run: Run, names: int = 3, seeds: int = 3, **changes: Any) -> list[Record]:
    return [run(f"m{place}", seed, **changes) for place in range(names) for seed in range(seeds)]


def check(old: list[Record], new: list[Record], **policy: Any) -> CheckOutcome:
    return judge_records(old, new, Policy(**policy))


def changed(record: Record, part: str, **fields: Any) -> Record:
    assert record.cost is not None
    inner = getattr(record.cost, part)
    new = inner.model_copy(update=fields) if fields else inner
    return record.model_copy(update={"cost": record.cost.model_copy(update={part: new})})


def test_the_same_records_pass_without_statistics(run: Run) -> None:
    outcome = check(suite(run), suite(run))
    assert (outcome.exit_code, outcome.summary) == (0, "Nothing is worse: every answer is as before.")
    assert {one.details for one in outcome.findings if one.gate == "em"} == {"every answer is as before"}


def test_other_answers_that_are_as_good_pass(run: Run) -> None:
    assert check(suite(run), suite(run, own=1)).exit_code == 0


def test_a_planted_drop_in_one_method_fails_and_is_named(run: Run) -> None:
    new = [run(f"m{place}", seed, fallen=0.08 if place == 1 else 0) for place in range(3) for seed in range(3)]
    outcome = check(suite(run), new)
    assert outcome.exit_code == 1
    assert {one.name for one in outcome.with_verdict("worse") if one.gate == "em"} == {"feelings · bookworm · m1"}
    assert "m1" in outcome.summary


def test_a_small_drop_of_all_methods_fails_through_what_they_share(run: Run) -> None:
    old, new = suite(run, names=16, seeds=1), suite(run, names=16, seeds=1, fallen=0.015, own=1)
    old, new = ([changed(one, "parameters", trainable=0) for one in side] for side in (old, new))
    outcome = check(old, new)
    assert outcome.exit_code == 1
    assert [one.gate for one in outcome.with_verdict("worse")] == ["common shift"]


def test_a_run_that_is_gone_cannot_be_told(run: Run) -> None:
    old = suite(run)
    assert check(old, old[1:]).exit_code == 3
    outcome = check(old, [record for record in old if record.spec.method.name != "m1"])
    assert (outcome.exit_code, [one.name for one in outcome.with_verdict("missing")]) == (3, ["feelings · bookworm · m1"])


def test_an_edited_task_is_incomparable_and_the_field_is_named(run: Run) -> None:
    outcome = check([run()], [run(task__sha256="f" * 64)])
    assert outcome.exit_code == 3
    (found,) = outcome.with_verdict("incomparable")
    assert found.details == f"task.sha256: {'a' * 8}… → {'f' * 8}…"


def test_a_changed_default_is_incomparable_and_named(run: Run) -> None:
    outcome = check([run()], [run(method__params={"rank": 8, "lr": 2e-3})])
    assert [one.details for one in outcome.with_verdict("incomparable")] == ["lora.rank: 16 → 8"]


def test_a_status_that_fell_fails_and_one_that_rose_is_better(run: Run, make_record: MakeRecord) -> None:
    error = {"kind": "K", "message": "wanted 9 GiB", "trace": None}
    broken = make_record("lora", status="did-not-fit", scores={}, samples=[], cost=None, error=error)
    fell = check([run()], [broken])
    assert (fell.exit_code, fell.with_verdict("worse")[0].details) == (1, "seed 0: ok → did-not-fit: wanted 9 GiB")
    assert [one.verdict for one in check([broken], [run()]).findings if one.gate == "status"] == ["better"]


def test_an_improvement_passes_and_calls_the_baseline_stale(run: Run) -> None:
    outcome = check(suite(run, fallen=0.08), suite(run))
    assert outcome.exit_code == 0
    assert "stale" in outcome.summary


def test_training_with_few_seeds_is_unsure_and_never_a_pass(run: Run) -> None:
    outcome = check(suite(run, seeds=2), suite(run, seeds=2, own=1))
    assert outcome.exit_code == 3
    assert {one.gate for one in outcome.with_verdict("unsure")} == {"em"}


def test_few_seeds_of_one_method_are_no_pass_though_another_is_as_before(run: Run) -> None:
    old = [run(seed=0), changed(run("majority"), "parameters", trainable=0)]
    new = [run(seed=0, fallen=0.1), changed(run("majority"), "parameters", trainable=0)]
    assert check(old, new).exit_code == 3


def test_one_method_with_two_budgets_is_two_runs(run: Run) -> None:
    sizes = [(size, seed) for size in (50, 100) for seed in range(3)]
    old = [run(seed=seed, budget__examples=size) for size, seed in sizes]
    new = [run(seed=seed, budget__examples=size, fallen=0.1 if size == 50 else 0) for size, seed in sizes]
    outcome = check(old, new)
    assert outcome.exit_code == 1
    assert {one.name for one in outcome.with_verdict("worse")} == {"feelings · bookworm · lora budget.examples=50"}


def test_the_same_answers_scored_otherwise_fail(run: Run) -> None:
    old = run()
    wrong = Samples.from_list([sample.model_copy(update={"scores": {"em": 0.0}}) for sample in old.samples])
    new = old.model_copy(update={"samples": wrong, "scores": {"em": 0.0}})
    assert "scored otherwise" in check([old], [new]).with_verdict("worse")[0].details
    assert [one.verdict for one in check([new], [old]).findings if one.gate == "em"] == ["better"]


def test_other_questions_or_none_are_incomparable(run: Run) -> None:
    old = run()
    assert check([old], [old.model_copy(update={"samples": old.samples[1:]})]).exit_code == 3
    empty = old.model_copy(update={"samples": Samples.from_list(())})
    assert check([empty], [empty]).exit_code == 3


def test_a_run_that_now_crashes_fails_and_a_new_one_is_shown(run: Run, make_record: MakeRecord) -> None:
    def broken(status: str) -> Record:
        error = {"kind": "K", "message": "\x1b[31mno tea", "trace": None}
        return make_record("lora", status=status, scores={}, samples=[], cost=None, error=error)

    outcome = check([broken("did-not-fit"), run("m0")], [broken("error"), run("m0")])
    assert outcome.exit_code == 1
    ElementTree.fromstring(check_output.to_junit(outcome))
    (new,) = check([run("m0")], [run("m0"), broken("error")]).with_verdict("new")
    assert new.details == "was not there before: error"


def test_the_fall_that_is_said_to_be_seen_is_seen(run: Run) -> None:
    """Four times in five, or about so."""
    from bench.analysis.regression import score_drop
    from bench.analysis.seed_variance import NO_PRIOR

    dice, seen = numpy.random.default_rng(5), 0
    gaps = [dice.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(1, 500)) for _ in range(150)]
    for gap in gaps:
        least = score_drop.ScoreDrop("a", "em", gap, NO_PRIOR, 0.01).detectable_drop(0.05)
        fallen = gap - (dice.random(500) < least)
        seen += score_drop.ScoreDrop("a", "em", fallen, NO_PRIOR, 0.01).p_value < 0.05
    assert 0.6 < seen / 150 < 0.95


def test_nothing_compared_is_no_pass() -> None:
    assert check([], []).exit_code == 3


@pytest.mark.parametrize(
    ("part", "fields"),
    [("parameters", {"trainable": 4_001}), ("spent", {"steps": 2}), ("spent", {"tokens": 98})],
)
def test_counts_that_changed_fail_whatever_the_scores(run: Run, part: str, fields: dict[str, int]) -> None:
    outcome = check([run()], [changed(run(), part, **fields)])
    (found,) = outcome.with_verdict("worse")
    assert (outcome.exit_code, found.gate) == (1, "counts")
    assert next(iter(fields)) in found.details


def test_steps_under_a_budget_of_seconds_are_the_clocks(run: Run) -> None:
    old = run(budget__seconds=60)
    assert check([old], [changed(old, "spent", steps=2)]).exit_code == 0


def test_an_artifact_that_grew_fails(run: Run) -> None:
    new = run()
    assert new.cost is not None
    grown = new.model_copy(update={"cost": new.cost.model_copy(update={"artifact_bytes": 2_100})})
    assert [one.gate for one in check([run()], [grown]).with_verdict("worse")] == ["artifact"]
    assert check([run()], [grown], artifact=0.05).exit_code == 0


def test_memory_of_a_cpu_is_shown_and_of_a_gpu_judged(run: Run) -> None:
    for device, verdict in (("cpu", "shown"), ("NVIDIA H200", "worse")):
        env = {
            "started": "2026-01-01", "adaptbench": "0", "revision": None, "method_sha256": "0", "python": "3.11",
            "platform": "Linux", "processor": "P", "cores": 2, "threads": 2, "memory_mib": 9, "device": device,
            "others_cores": 0, "packages": {},
        }  # fmt: skip
        old = run(env=env)
        assert old.cost is not None
        fit = old.cost.phases["fit"].model_copy(update={"peak_mib": 900.0})
        cost = old.cost.model_copy(update={"phases": old.cost.phases | {"fit": fit}})
        (found,) = [
            one for one in check([old], [old.model_copy(update={"cost": cost})]).findings if one.gate == "memory"
        ]
        assert (found.verdict, found.details) == (verdict, "fit: 700 → 900 MiB")


def test_false_alarms_of_a_whole_check_are_rare(make_record: MakeRecord) -> None:
    """Sixteen trained methods that only drew new seeds' luck: at most 6 of 100 checks fail."""
    from bench.analysis.regression import pairing, score_drop

    template = make_record("lora", items=2)
    alarms, rounds, dice = 0, 150, numpy.random.default_rng(3)
    for _ in range(rounds):
        hard = dice.random(300)
        changed = []
        for place in range(16):
            sides = [(dice.random((3, 300)) < hard + 0.02 * dice.standard_normal((3, 1))).astype(float) for _ in "ab"]
            one = pairing.RecordPair("t", "m", f"m{place}", (template,), (template,), {})
            changed.append(score_drop.ChangedPair(one, sides[1] - sides[0]))
        alarms += any(one.verdict == "worse" for one in score_drop.judge_drops(changed, changed, Policy()))
    assert alarms / rounds <= 0.06


def test_markdown_puts_the_worst_first_and_folds_the_rest(run: Run) -> None:
    new = [run(f"m{place}", seed, fallen=0.08 if place == 2 else 0) for place in range(3) for seed in range(3)]
    text = check_output.to_markdown(check(suite(run), new))
    assert text.index("❌") < text.index("<details>")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert html.count("<table>") == 2


def test_junit_can_be_parsed_and_counts(run: Run) -> None:
    new = suite(run, fallen=0.08)[1:]
    root = ElementTree.fromstring(check_output.to_junit(check(suite(run), new)))
    assert sum(int(one.attrib["failures"]) for one in root) == len(root.findall(".//failure")) > 0
    assert sum(int(one.attrib["errors"]) for one in root) == len(root.findall(".//error")) == 1


def put(records: list[Record], folder: Path) -> Path:
    for record in records:
        record.write(folder)
    return folder


def test_the_command_by_its_exit_codes(run: Run, run_bench: Bench, tmp_path: Path) -> None:
    put(suite(run), tmp_path / "old")
    put(suite(run), tmp_path / "same")
    put(suite(run, fallen=0.08), tmp_path / "worse")
    put(suite(run)[:-1], tmp_path / "less")
    put(suite(run), tmp_path / "all" / "base")
    (tmp_path / "same" / "folder.json").mkdir()
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "x.json").write_text('{"schema": 0}')
    (tmp_path / "empty").mkdir()
    for new, options, code in (
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
        done = run_bench("check", new, *options)
        assert done.returncode == code, (new, options, done.stdout, done.stderr)
    assert run_bench("compare", "old", "worse").returncode == 0
    told = run_bench(
        "check", "worse", "--baseline", "old", "--markdown", "a.md", "--junit", "a.xml", "--format", "json"
    )
    assert json.loads(told.stdout.splitlines()[-1])["code"] == 1
    assert "❌" in (tmp_path / "a.md").read_text("utf-8")
    ElementTree.parse(tmp_path / "a.xml")
    summary = tmp_path / "summary.md"
    run_bench("check", "same", "--baseline", "old", GITHUB_STEP_SUMMARY=str(summary))
    assert "Nothing is worse" in summary.read_text("utf-8")


def test_the_verbs_that_read_import_no_learning_library(run: Run, tmp_path: Path, environment: dict[str, str]) -> None:
    put(suite(run), tmp_path / "old")
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


def test_the_policy_of_a_project_rules_and_a_wrong_one_is_refused(run: Run, run_bench: Bench, tmp_path: Path) -> None:
    put(suite(run), tmp_path / "old")
    put(suite(run, fallen=0.08), tmp_path / "new")
    (tmp_path / "pyproject.toml").write_text("[tool.bench.check]\ndrop = 0.5\nlevel = 0.0001\n")
    done = run_bench("check", "new", "--baseline", "old")
    assert [line for line in done.stdout.splitlines() if "em" in line and "worse" in line] == []
    for wrong, complaint in (
        ("[tool.bench.check]\ndorp = 0.5\n", "[tool.bench.check] dorp"),
        ("[tool.bench.check]\ndrop = 5\n", "[tool.bench.check] drop"),
        ("[tool.bench.check]\ndrop = true\n", "[tool.bench.check] drop"),
        ('[tool]\nbench = "x"\n', "'bench' is no table"),
        ("[tool", "no TOML"),
    ):
        (tmp_path / "pyproject.toml").write_text(wrong)
        done = run_bench("check", "new", "--baseline", "old")
        assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr


def test_a_baseline_moves_only_with_a_reason_and_keeps_it(run: Run, run_bench: Bench, tmp_path: Path) -> None:
    put(suite(run), tmp_path / "new")
    assert run_bench("bless", "new", "--into", "base").returncode == 2
    assert run_bench("bless", "new", "--into", "base", "--reason", " ").returncode == 2
    assert run_bench("bless", "new", "--into", "base", "--reason", "first one").returncode == 0
    put([run("m0", method__params={"rank": 2})], tmp_path / "other")
    assert run_bench("bless", "other", "--into", "base", "--reason", "rank 2").returncode == 0
    kept = [Record.read(file) for file in (tmp_path / "base").glob("*.json")]
    assert sorted(one.spec.method.name for one in kept) == ["m0", "m1", "m1", "m1", "m2", "m2", "m2"]
    reasons = (tmp_path / "base" / "BLESSED.md").read_text("utf-8")
    assert reasons.index("first one") < reasons.index("rank 2")


def test_a_broken_file_in_a_baseline_costs_none_of_it(run: Run, tmp_path: Path) -> None:
    put(suite(run), tmp_path)
    (tmp_path / "zz.json").write_text('{"schema": 0}')
    with pytest.raises(UserError, match="no record of this version"):
        baseline.bless_baseline(suite(run), tmp_path, "again")
    assert len(list(tmp_path.glob("*.json"))) == 10


def test_a_run_that_failed_is_no_baseline(make_record: MakeRecord, tmp_path: Path) -> None:
    error = {"kind": "K", "message": "no tea", "trace": None}
    failed = make_record("lora", status="error", scores={}, samples=[], cost=None, error=error)
    with pytest.raises(UserError, match="ended in an error"):
        baseline.bless_baseline([failed], tmp_path, "why not")


def test_a_blessed_baseline_is_found_in_a_revision(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    baseline.bless_baseline([make_record("lora")], baseline.DEFAULT_BASELINE, "the first")
    for words in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm one"):
        subprocess.run(["git", *words.split()], check=True)
    for named in ("HEAD", "HEAD:results/baselines/ci", "HEAD:results/baselines/ci/", str(baseline.DEFAULT_BASELINE)):
        assert [record.spec.method.name for record in baseline.load_baseline(named)] == ["lora"]


def test_git_revisions_hold_records(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(suite(run), tmp_path / baseline.DEFAULT_BASELINE)
    (tmp_path / baseline.DEFAULT_BASELINE / "elsewhere.json").symlink_to("/etc/hostname")  # is no record, and leads nowhere
    for words in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm one"):
        subprocess.run(["git", *words.split()], check=True)
    assert len(baseline.load_baseline("HEAD")) == len(baseline.load_baseline("HEAD:results")) == 9
    assert baseline.has_records("HEAD")
    assert not baseline.has_records("nowhere")
    assert not baseline.has_records("HEAD:nowhere")
    with pytest.raises(UserError, match="no revision"):
        baseline.has_records("no/where")
    for wrong in ("nowhere", "HEAD:nowhere"):
        with pytest.raises(UserError, match=wrong.split(":")[-1]):
            baseline.load_baseline(wrong)
