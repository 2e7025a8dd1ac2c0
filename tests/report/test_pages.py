"""The report: complete, self-contained, honest about what failed, and usable in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import Bench, MakeRecord
from markdown_it import MarkdownIt

from bench.analysis.regression import baseline
from bench.analysis.task_results import group_by_task, read_records
from bench.errors import UserError
from bench.i18n import translator, untranslated
from bench.records.record import Record
from bench.report import pages, plots, section_view

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CURVE = [
    {
        "step": step, "tokens": 10 * step, "seconds": float(step), "train_loss": 1 / (step + 1),
        "validation_loss": loss, "next_token_accuracy": 0.5,
    }
    for step, loss in enumerate((1.0, 0.4, 0.2, 0.6))
]  # fmt: skip
FORGOT = {"text_sha256": "c" * 64, "tokens": 9, "nats_before": 1.0, "nats_after": 1.5}
TUNING = {
    "ranges": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
    "attempts": [{"params": {"lr": 2e-3}, "status": "ok", "score": score} for score in (0.2, 0.7, 0.5)],
}
FAILED = {"scores": {}, "samples": [], "cost": None}


@pytest.fixture
def records(make_record: MakeRecord) -> list[Record]:
    """A comparison with everything a page must show: seeds, controls, curves, failures."""
    made = [
        make_record(name, em, items=40, seed=seed, curve=CURVE, forgetting=FORGOT, tuning=TUNING)
        for name, em in (("lora", 0.8), ("full", 0.7), ("few-shot", 0.4))
        for seed in (0, 1)
    ]
    made += [make_record("nearest", 0.2, items=40, seed=seed, method__control=True) for seed in (0, 1)]
    why = {"kind": "DidNotFit", "message": "wanted 9 GiB & <more>", "trace": None}
    made.append(make_record("prefix", status="did-not-fit", error=why, **FAILED))
    made.append(make_record("qlora", seed=1, status="error", error=why | {"kind": "K", "message": "no tea"}, **FAILED))
    return made


@pytest.fixture
def written(records: list[Record], tmp_path: Path) -> Path:
    pages.write_report(group_by_task(records), tmp_path, questions=lambda spec: {"q0": "What color is <tea>?"})
    return tmp_path


def test_a_report_has_all_its_parts(written: Path) -> None:
    assert {file.name for file in written.iterdir()} == {
        "index.html", "report.md", "table.csv", "records.parquet", "plots"
    }  # fmt: skip
    names = {file.stem for file in (written / "plots").iterdir()}
    drawn = {f"feelings-bookworm-{plot.name}" for plot in plots.all_plots()} - {"feelings-bookworm-labels"}
    assert names == drawn
    assert {file.suffix for file in (written / "plots").iterdir()} == {".svg", ".png"}


@pytest.mark.parametrize("name", ["index.html", "report.md"])
def test_whatever_failed_is_there_with_its_reason(written: Path, name: str) -> None:
    text = (written / name).read_text("utf-8")
    assert "did-not-fit" in text
    assert "wanted 9 GiB" in text
    assert "no tea" in text


def test_text_from_outside_is_never_markup(written: Path) -> None:
    page = (written / "index.html").read_text("utf-8")
    assert "&lt;more&gt;" in page
    assert "<more>" not in page
    assert "What color is &lt;tea&gt;?" in page


def test_the_page_asks_for_nothing_from_outside(written: Path) -> None:
    page = (written / "index.html").read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {source for source in sources if not source.startswith("data:")} == set()
    assert "@import" not in page


def test_ids_on_the_page_are_unique(written: Path) -> None:
    ids = re.findall(r'<(?!path|clipPath|style)\w+ [^>]*?\bid="([^"]+)"', (written / "index.html").read_text("utf-8"))
    assert len(ids) == len(set(ids))


def test_errors_come_first_among_the_sample_answers(records: list[Record]) -> None:
    view = section_view.SectionView(group_by_task(records)[0], [], {}, untranslated)
    some = [one.scores["em"] for one in view.samples(records[0])]
    assert some == sorted(some)
    assert len(some) == section_view.SAMPLES
    assert {0.0, 1.0} == set(some)
    assert view.wrong(records[0]) == 8


def test_tables_hold_every_method_and_every_run(written: Path, records: list[Record]) -> None:
    table = pandas.read_csv(written / "table.csv")
    assert set(table["method"]) == {record.spec.method.name for record in records}
    assert table.set_index("label").loc["lora", "em"] == 0.8
    assert table.set_index("label").loc["prefix", "reason"] == "wanted 9 GiB & <more>"
    runs = pandas.read_parquet(written / "records.parquet")
    assert set(runs["id"]) == {record.id for record in records}
    assert runs.set_index("id").loc[records[0].id, "cost.phases.fit.wall_s"] == 2.0


def test_pandas_and_datasets_open_the_runs_with_the_columns_that_the_docs_name(
    written: Path, records: list[Record], tmp_path: Path
) -> None:
    import datasets

    file = written / "records.parquet"
    by_pandas = pandas.read_parquet(file)
    by_datasets = datasets.load_dataset(
        "parquet", data_files=str(file), split="train", cache_dir=str(tmp_path), download_mode="force_redownload"
    )
    assert by_datasets.column_names == list(by_pandas.columns)
    assert by_datasets["id"][:] == list(by_pandas["id"]) == [record.id for record in records]
    docs = (Path(__file__).parents[2] / "docs" / "reports.md").read_text("utf-8").partition("## The runs as a table")[2]
    named = re.findall(r"^\| `([\w.]+)` \|", docs.partition("\n## ")[0], re.MULTILINE)
    assert len(named) > 10
    assert set(named) <= set(by_pandas.columns)
    parts = {name.partition(".")[0] for name in by_pandas.columns}
    assert parts <= {name.partition(".")[0] for name in named} | {"schema", "env"}


def test_the_same_records_give_the_same_pictures(records: list[Record], tmp_path: Path) -> None:
    for folder in ("one", "other"):
        pages.write_report(group_by_task(records), tmp_path / folder)
    for file in (tmp_path / "one" / "plots").glob("*.svg"):
        assert file.read_bytes() == (tmp_path / "other" / "plots" / file.name).read_bytes()


def test_training_sizes_share_a_section_and_the_largest_is_the_table(make_record: MakeRecord, tmp_path: Path) -> None:
    made = [make_record("lora", em, items=40, budget__examples=size) for size, em in ((10, 0.2), (40, 0.6), (20, 0.4))]
    (section,) = group_by_task(made)
    assert list(section.sizes) == [10, 20, 40]
    assert [record.scores["em"] for record in section.records] == [0.6]
    pages.write_report([section], tmp_path)
    assert (tmp_path / "plots" / "feelings-bookworm-labels.svg").is_file()
    assert len(pandas.read_csv(tmp_path / "table.csv")) == 3


def test_all_examples_are_a_size_like_any_other(make_record: MakeRecord) -> None:
    (section,) = group_by_task([make_record("lora", budget__examples=4), make_record("lora")])
    assert list(section.sizes) == [4, 9]


def test_granting_all_examples_is_not_a_second_size(make_record: MakeRecord) -> None:
    with pytest.raises(UserError, match="the same runs twice"):
        group_by_task([make_record("lora", budget__examples=9), make_record("lora")])


def test_what_failed_with_fewer_examples_is_told_too(make_record: MakeRecord, tmp_path: Path) -> None:
    why = {"kind": "K", "message": "no tea", "trace": None}
    made = [make_record(name, items=40, budget__examples=size) for name in ("lora", "full") for size in (10, 20)]
    made.append(make_record("dora", status="error", error=why, budget__examples=10, **FAILED))
    made.append(make_record("dora", items=40, budget__examples=20))
    made.append(make_record("ia3", items=40, budget__examples=10))
    made.append(make_record("ia3", status="error", error=why, budget__examples=20, **FAILED))
    pages.write_report(group_by_task(made), tmp_path)
    assert "with 10 examples: dora: error: no tea" in (tmp_path / "index.html").read_text("utf-8")


def test_a_task_on_which_every_run_failed_is_a_page_with_the_reasons(make_record: MakeRecord, tmp_path: Path) -> None:
    why = {"kind": "K", "message": "no tea", "trace": None}
    pages.write_report(group_by_task([make_record("lora", status="error", error=why, **FAILED)]), tmp_path)
    assert "lora: error: no tea" in (tmp_path / "index.html").read_text("utf-8")


def test_old_records_tell_how_many_examples_there_are_by_their_passes(make_record: MakeRecord) -> None:
    made = make_record("lora").model_dump(mode="json", by_alias=True)
    made["cost"]["spent"] |= {"available": None, "examples": 54, "passes": 6}
    old = Record.model_validate_json(json.dumps(made))
    (section,) = group_by_task([make_record("lora", budget__examples=4), old])
    assert list(section.sizes) == [4, 9]


def test_a_baseline_is_read_where_it_is_named_and_is_no_result(make_record: MakeRecord, tmp_path: Path) -> None:
    make_record("lora").write(tmp_path)
    folder = tmp_path / "baselines" / "ci"
    baseline.bless_baseline([make_record("full", budget__passes=1)], folder, "the first")
    assert [record.spec.method.name for record in read_records([tmp_path])] == ["lora"]
    assert [record.spec.method.name for record in read_records([folder])] == ["full"]


def test_trials_are_no_results(make_record: MakeRecord, tmp_path: Path) -> None:
    make_record("lora").write(tmp_path)
    make_record("lora", exam="validation").write(tmp_path / "trials")
    assert [record.spec.split for record in read_records([tmp_path])] == ["test"]


def test_two_models_of_one_name_are_told_apart_and_one_by_two_names_is_one(make_record: MakeRecord) -> None:
    twins = group_by_task(
        [make_record("lora", base__ref="/a/x"), make_record("lora", base__ref="/b/x", base__sha256="c" * 64)]
    )
    assert [section.title for section in twins] == ["feelings · x bbbbbb", "feelings · x cccccc"]
    assert len(group_by_task([make_record("lora", base__ref="/a/x"), make_record("full", base__ref="x")])) == 1


def test_markdown_keeps_its_table_whatever_a_name_holds(make_record: MakeRecord, tmp_path: Path) -> None:
    made = [make_record("few-shot", items=40, method__params={"prompt": prompt}) for prompt in ("x | y\nz", "<b>")]
    pages.write_report(group_by_task(made), tmp_path)
    html = MarkdownIt("commonmark").enable("table").render((tmp_path / "report.md").read_text("utf-8"))
    assert html.count("<tr>") == 3
    assert "<b>" not in html


def test_other_terms_are_refused_by_name(make_record: MakeRecord) -> None:
    with pytest.raises(UserError, match=r"budget\.passes: 3 and 1"):
        group_by_task([make_record("lora"), make_record("full", budget__passes=1)])


def test_other_tasks_have_their_own_sections(make_record: MakeRecord) -> None:
    made = group_by_task([make_record("lora"), make_record("lora", task__name="other"), make_record("full")])
    assert [section.title for section in made] == ["feelings · bookworm", "other · bookworm"]


def test_what_cannot_be_read_is_refused(make_record: MakeRecord, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_records([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no record in"):
        read_records([tmp_path])
    make_record("lora").write(tmp_path / "a")
    make_record("lora", scores={"em": 0.1}).write(tmp_path / "b")
    with pytest.raises(UserError, match="two records of the same run"):
        read_records([tmp_path])
    assert len(read_records([tmp_path / "a", tmp_path / "a"])) == 1
    (tmp_path / "a" / "alien.json").write_text('{"schema": 7}')
    with pytest.raises(UserError, match="no record of this version"):
        read_records([tmp_path / "a"])


def test_the_command_writes_a_korean_report(records: list[Record], run_bench: Bench, tmp_path: Path) -> None:
    for record in records:
        record.write(tmp_path / "results")
    done = run_bench("report", "--lang", "ko", "--out", "here")
    assert (done.returncode, done.stdout.strip()) == (0, "here/index.html")
    page = (tmp_path / "here" / "index.html").read_text("utf-8")
    assert '<html lang="ko">' in page
    assert "lora 방법을 쓰십시오." in page


def test_korean_letters_are_in_the_pictures(make_record: MakeRecord, tmp_path: Path, recwarn: Any) -> None:
    records = [make_record("lora", items=40, task__name="책 추천"), make_record("가나다", 0.2, items=40)]
    records[1] = records[1].model_copy(
        update={"spec": records[1].spec.model_copy(update={"task": records[0].spec.task})}
    )
    pages.write_report(group_by_task(records), tmp_path, "ko")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert (tmp_path / "plots" / "책-추천-bookworm-quality.png").is_file()


def test_the_plot_in_the_docs_is_drawn(records: list[Record], make_record: MakeRecord) -> None:
    text = (ROOT / "docs" / "reports.md").read_text("utf-8")
    found: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], found)
    (plot,) = found["PLOTS"]
    (section,) = group_by_task(records)
    for say in (untranslated, translator("ko")):  # of which no sentence is translated
        figure = plot.draw(section, say)
        assert figure.axes[0].get_xlabel() == "bytes kept"
        assert plot.caption(say).startswith("What a method earns")
    assert plot.draw(group_by_task([make_record("majority", cost=None)])[0], untranslated) is None


@pytest.fixture
def page(written: Path) -> Iterator[Any]:
    """The report in a real browser, with everything it complained of or asked for."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=quiet)
        tab = browser.new_page()
        tab.complaints, tab.requests = [], []
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.goto(f"file://{written}/index.html")
        yield tab
        browser.close()


def column(page: Any, place: int) -> list[str]:
    return [text.strip() for text in page.locator(f".results tbody tr:visible > :nth-child({place})").all_inner_texts()]


def test_in_a_browser_the_page_sorts_filters_and_explains(page: Any) -> None:
    assert column(page, 1)[:3] == ["lora", "full", "few-shot"]
    page.get_by_role("button", name="method").click()
    assert column(page, 1) == ["few-shot", "full", "lora", "nearest °", "prefix", "qlora"]
    page.get_by_role("button", name="em", exact=False).first.click()
    assert column(page, 2)[:4] == ["0.800", "0.700", "0.400", "0.200"]
    page.get_by_role("button", name="em", exact=False).first.click()
    assert column(page, 2)[:4] == ["0.200", "0.400", "0.700", "0.800"]
    page.get_by_role("searchbox").fill("lora")
    assert set(column(page, 1)) == {"lora", "qlora"}
    page.get_by_label("not ok").uncheck()
    assert column(page, 1) == ["lora"]
    page.get_by_role("searchbox").fill("")
    page.get_by_label("controls").uncheck()
    assert set(column(page, 1)) == {"lora", "full", "few-shot"}
    page.locator(".plots .mark use").first.hover()
    assert "em 0." in page.locator("#tip").inner_text()
    page.get_by_role("link", name="full").click()
    assert page.locator("details[open]").count() == 1
    assert (page.complaints, len(page.requests)) == ([], 1)


@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser_plots_and_text_are_legible_at_any_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [figure.bounding_box() for figure in page.locator("figure svg").all()]
    assert len(boxes) == len(plots.all_plots()) - 1
    assert all(box["width"] > 300 and box["height"] > 100 for box in boxes)
    heights = page.evaluate(
        "[...document.querySelectorAll('svg text')].map((one) => one.getBoundingClientRect().height)"
    )
    assert min(heights) > 7
    sizes = page.evaluate(
        "[...document.querySelectorAll('p, td, li')].map((one) => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 14


def test_a_section_knows_its_metric_and_its_rows(records: list[Record]) -> None:
    (section,) = group_by_task(records)
    assert section.metric == "em"
    assert [row.label for row in section.rows] == ["lora", "full", "few-shot", "nearest", "prefix", "qlora"]


def test_of_many_tasks_each_has_a_page_and_the_first_page_has_all(make_record: MakeRecord, tmp_path: Path) -> None:
    made = [
        make_record(name, em, seed=seed, items=40, task__name=f"task-{place:02}", method__control=name == "nearest")
        for place in range(pages.FEW + 1)
        for seed in range(2)
        for name, em in (("lora", 0.8), ("full", 0.5 + 0.35 * (place == 0)), ("nearest", 0.1))
    ]
    why = {"kind": "K", "message": "no tea", "trace": None}
    made.append(make_record("qlora", status="error", error=why, task__name="task-00", **FAILED))
    pages.write_report(group_by_task(made), tmp_path)
    first = (tmp_path / "index.html").read_text("utf-8")
    for place in range(pages.FEW + 1):
        assert f'href="tasks/task-{place:02}-bookworm.html"' in first
        page = (tmp_path / "tasks" / f"task-{place:02}-bookworm.html").read_text("utf-8")
        assert 'href="../index.html"' in page
        assert page.count("<svg") == pages.FIRST
        assert "seed 0: answers" in page and "seed 1: answers" not in page
    assert "no tea" in (tmp_path / "tasks" / "task-00-bookworm.html").read_text("utf-8")
    assert len(pandas.read_csv(tmp_path / "table.csv")) == len(made) // 2 + 1
    assert len(pandas.read_parquet(tmp_path / "records.parquet")) == len(made)
    lines = [line for line in (tmp_path / "report.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert cells["lora"][:3] == ["1.1", "13", "12"]
    assert cells["full"][:3] == ["1.9", "13", "1"]
    assert cells["qlora"] == ["–", "1", "0", "0", "0", "1"]


def test_what_is_at_hand_of_a_section_is_reckoned_once(make_record: MakeRecord, tmp_path: Path) -> None:
    made = [make_record("lora", em, items=40, budget__examples=size) for size, em in ((10, 0.2), (40, 0.6))]
    (section,) = group_by_task(made)
    assert [records for records, _ in section.by_size] == list(section.sizes.values())
    assert section.by_size[-1][1] is section.comparison.results
