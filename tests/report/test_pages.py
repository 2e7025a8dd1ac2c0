"""The report: complete, self-contained, clear about failures, and usable in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import Bench, MakeRecord, cuda_cost
from markdown_it import MarkdownIt

from bench.analysis.task_results import group_by_task
from bench.i18n import translator, untranslated
from bench.measurement import environment
from bench.records import Record
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
FORGETTING = {"text_sha256": "c" * 64, "tokens": 9, "nats_before": 1.0, "nats_after": 1.5}
KEPT_WEIGHTS = {"keep": "best", "step": 2, "validation_loss": 0.2}
TUNING = {
    "ranges": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
    "trials": [{"params": {"lr": 2e-3}, "status": "ok", "score": score} for score in (0.2, 0.7, 0.5)],
}
MEASURED = {"forgetting": FORGETTING, "kept_weights": KEPT_WEIGHTS, "tuning": TUNING}
FAILED: dict[str, Any] = {"scores": {}, "samples": [], "cost": None}
DISK_ERROR = {"kind": "K", "message": "out of disk space", "trace": None}


@pytest.fixture
def records(make_record: MakeRecord) -> list[Record]:
    """A comparison with everything a page must show: seeds, controls, curves, failures."""
    records = [
        make_record(name, em, items=40, seed=seed, curve=CURVE, **MEASURED)
        for name, em in (("lora", 0.8), ("full", 0.7), ("few-shot", 0.4))
        for seed in (0, 1)
    ]
    records += [make_record("nearest", 0.2, items=40, seed=seed, method__control=True) for seed in (0, 1)]
    memory_error = {"kind": "DidNotFit", "message": "wanted 9 GiB & <more>", "trace": None}
    records.append(make_record("prefix", status="did-not-fit", error=memory_error, **FAILED))
    records.append(make_record("qlora", seed=1, status="error", error=DISK_ERROR, **FAILED))
    return records


@pytest.fixture
def report(records: list[Record], tmp_path: Path) -> Path:
    pages.write_report(group_by_task(records), tmp_path, load_questions=lambda spec: {"q0": "What color is <tea>?"})
    return tmp_path


def test_write_report_creates_all_files(report: Path) -> None:
    assert {file.name for file in report.iterdir()} == {
        "index.html", "report.md", "table.csv", "records.parquet", "plots"
    }  # fmt: skip
    files = {file.stem for file in (report / "plots").iterdir()}
    drawn = {f"feelings-bookworm-{plot.name}" for plot in plots.all_plots()}
    assert files == drawn - {"feelings-bookworm-learning-curve"}
    assert {file.suffix for file in (report / "plots").iterdir()} == {".svg", ".png"}


@pytest.mark.parametrize("name", ["index.html", "report.md"])
def test_page_shows_failed_runs_with_reasons(report: Path, name: str) -> None:
    text = (report / name).read_text("utf-8")
    assert "did-not-fit" in text
    assert "wanted 9 GiB" in text
    assert "out of disk space" in text


@pytest.mark.parametrize("name", ["index.html", "report.md"])
def test_page_shows_answers_without_an_end(make_record: MakeRecord, tmp_path: Path, name: str) -> None:
    """Records without the counts have a dash; without any such answer there are no columns."""
    counted, old = make_record("lora"), make_record("full")
    assert counted.cost is not None and counted.cost.answering is not None
    counts = {"generated_answers": 4, "cut_answers": 3, "repeating_answers": 1}
    cost = counted.cost.model_copy(update={"answering": counted.cost.answering.model_copy(update=counts)})
    for records, is_shown in (([counted.model_copy(update={"cost": cost}), old], True), ([counted, old], False)):
        pages.write_report(group_by_task(records), tmp_path)
        text = (tmp_path / name).read_text("utf-8")
        assert ("3 of 4 generated answers reached the token limit" in text) is is_shown
        assert ("repeating" in text) is is_shown
        assert ("75.0 %" in text and "25.0 %" in text) is is_shown


def test_page_shows_memory_of_gpu_and_host_apart(make_record: MakeRecord, tmp_path: Path) -> None:
    on_gpu = make_record("lora", cost=cuda_cost(make_record(), device_mib=4321.0, host_mib=3456.0))
    task_results = group_by_task([on_gpu, make_record("tfidf")])
    pages.write_report(task_results, tmp_path)
    table = (tmp_path / "report.md").read_text("utf-8")
    assert "peak GPU memory (MiB) | peak host memory (MiB)" in table
    assert "| 4,321 | 3,456 |" in table
    assert "| – | 700 |" in table
    phases = (tmp_path / "index.html").read_text("utf-8")
    assert "import&nbsp;2.0 s,&nbsp;3,456 host; fit&nbsp;2.0 s,&nbsp;4,321 GPU, 3,456 host" in phases
    assert "predict&nbsp;2.0 s,&nbsp;700</td>" in phases


def test_memory_plots_with_gpu_runs_leave_out_memory_of_processes(make_record: MakeRecord) -> None:
    on_gpu = make_record("lora", cost=cuda_cost(make_record(), device_mib=4321.0, host_mib=3456.0))
    task_results = group_by_task([on_gpu, make_record("tfidf")])[0]
    figures = {plot.name: plot.draw(task_results, untranslated) for plot in plots.all_plots()}
    memory, pareto = figures["memory"], figures["pareto-memory"]
    assert memory is not None
    assert pareto is not None
    axes = memory.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lora"]
    assert axes.get_xlabel() == "MiB on the GPU"
    assert max(patch.get_width() for patch in axes.patches) == 4321.0  # type: ignore[attr-defined]


def test_page_escapes_text_of_records(report: Path) -> None:
    page = (report / "index.html").read_text("utf-8")
    assert "&lt;more&gt;" in page
    assert "<more>" not in page
    assert "What color is &lt;tea&gt;?" in page


def test_page_loads_nothing_from_outside(report: Path) -> None:
    page = (report / "index.html").read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {source for source in sources if not source.startswith("data:")} == set()
    assert "@import" not in page


def test_page_ids_are_unique(report: Path) -> None:
    ids = re.findall(r'<(?!path|clipPath|style)\w+ [^>]*?\bid="([^"]+)"', (report / "index.html").read_text("utf-8"))
    assert len(ids) == len(set(ids))


def test_section_view_shows_wrong_answers_first(records: list[Record]) -> None:
    view = section_view.SectionView(group_by_task(records)[0], [], {}, untranslated)
    scores = [sample.scores["em"] for sample in view.samples(records[0])]
    assert scores == sorted(scores)
    assert len(scores) == section_view.NUM_SAMPLES
    assert {0.0, 1.0} == set(scores)
    assert view.num_wrong(records[0]) == 8


def test_tables_hold_every_method_and_every_run(report: Path, records: list[Record]) -> None:
    table = pandas.read_csv(report / "table.csv")
    assert set(table["method"]) == {record.spec.method.name for record in records}
    assert table.set_index("label").loc["lora", "em"] == 0.8
    assert table.set_index("label").loc["prefix", "reason"] == "wanted 9 GiB & <more>"
    runs = pandas.read_parquet(report / "records.parquet")
    assert set(runs["id"]) == {record.id for record in records}
    assert runs.set_index("id").loc[records[0].id, "cost.phases.fit.wall_s"] == 2.0


def test_parquet_opens_with_the_columns_of_the_docs(report: Path, records: list[Record], tmp_path: Path) -> None:
    import datasets

    file = report / "records.parquet"
    by_pandas = pandas.read_parquet(file)
    by_datasets = datasets.load_dataset(
        "parquet", data_files=str(file), split="train", cache_dir=str(tmp_path), download_mode="force_redownload"
    )
    assert by_datasets.column_names == list(by_pandas.columns)
    assert by_datasets["id"][:] == list(by_pandas["id"]) == [record.id for record in records]
    docs = (ROOT / "docs" / "reports.md").read_text("utf-8").partition("## The runs as a table")[2]
    documented = re.findall(r"^\| `([\w.]+)` \|", docs.partition("\n## ")[0], re.MULTILINE)
    assert len(documented) > 10
    assert set(documented) <= set(by_pandas.columns)
    sections = {name.partition(".")[0] for name in by_pandas.columns}
    assert sections <= {name.partition(".")[0] for name in documented} | {"schema", "env"}


def test_write_report_of_the_same_records_draws_the_same_plots(records: list[Record], tmp_path: Path) -> None:
    for folder in ("first", "second"):
        pages.write_report(group_by_task(records), tmp_path / folder)
    files = list((tmp_path / "first" / "plots").glob("*.svg"))
    assert files
    for file in files:
        assert file.read_bytes() == (tmp_path / "second" / "plots" / file.name).read_bytes()


def test_training_sizes_get_a_learning_curve_and_csv_rows(make_record: MakeRecord, tmp_path: Path) -> None:
    sizes = ((10, 0.2), (40, 0.6), (20, 0.4))
    (task_results,) = group_by_task([make_record("lora", em, items=40, budget__examples=size) for size, em in sizes])
    pages.write_report([task_results], tmp_path)
    assert (tmp_path / "plots" / "feelings-bookworm-learning-curve.svg").is_file()
    assert len(pandas.read_csv(tmp_path / "table.csv")) == 3


def test_page_shows_failures_of_smaller_training_sizes(make_record: MakeRecord, tmp_path: Path) -> None:
    records = [make_record(name, items=40, budget__examples=size) for name in ("lora", "full") for size in (10, 20)]
    records.append(make_record("dora", status="error", error=DISK_ERROR, budget__examples=10, **FAILED))
    records.append(make_record("dora", items=40, budget__examples=20))
    records.append(make_record("ia3", items=40, budget__examples=10))
    records.append(make_record("ia3", status="error", error=DISK_ERROR, budget__examples=20, **FAILED))
    pages.write_report(group_by_task(records), tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "with 10 training examples: dora: error: out of disk space" in page


def test_page_without_a_successful_run_shows_reasons(make_record: MakeRecord, tmp_path: Path) -> None:
    pages.write_report(group_by_task([make_record("lora", status="error", error=DISK_ERROR, **FAILED)]), tmp_path)
    assert "lora: error: out of disk space" in (tmp_path / "index.html").read_text("utf-8")


def test_page_shows_what_a_run_chose_while_fitting(make_record: MakeRecord, tmp_path: Path) -> None:
    report = {"shots": 24, "calibrated": True, "validation_score": 0.5312, "select": "<b>"}
    records = [make_record("few-shot", items=40, fit_report=report), make_record("lora", items=40)]
    pages.write_report(group_by_task(records), tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "<td>shots 24, calibrated yes, validation score 0.5312, select &lt;b&gt;</td>" in page
    assert page.count("chosen while fitting") == 1, "runs that report nothing need no column"


def test_markdown_table_survives_special_characters(make_record: MakeRecord, tmp_path: Path) -> None:
    records = [make_record("few-shot", items=40, method__params={"prompt": prompt}) for prompt in ("x | y\nz", "<b>")]
    pages.write_report(group_by_task(records), tmp_path)
    html = MarkdownIt("commonmark").enable("table").render((tmp_path / "report.md").read_text("utf-8"))
    assert html.count("<tr>") == 3
    assert "<b>" not in html


def test_report_command_writes_a_korean_page(records: list[Record], run_bench: Bench, tmp_path: Path) -> None:
    for record in records:
        record.write(tmp_path / "results")
    done = run_bench("report", "--lang", "ko", "--out", "here")
    assert (done.returncode, done.stdout.strip()) == (0, "here/index.html")
    page = (tmp_path / "here" / "index.html").read_text("utf-8")
    assert '<html lang="ko">' in page
    assert "추천 방법: lora." in page
    assert "2.0초" in page  # the training time


def test_plots_have_korean_letters(make_record: MakeRecord, tmp_path: Path, recwarn: Any) -> None:
    records = [make_record("lora", items=40, task__name="책 추천"), make_record("가나다", 0.2, items=40)]
    spec = records[1].spec.model_copy(update={"task": records[0].spec.task})
    records[1] = records[1].model_copy(update={"spec": spec})
    pages.write_report(group_by_task(records), tmp_path, "ko")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert (tmp_path / "plots" / "책-추천-bookworm-quality.png").is_file()


def test_plot_of_the_docs_is_drawn(records: list[Record], make_record: MakeRecord) -> None:
    text = (ROOT / "docs" / "reports.md").read_text("utf-8")
    module: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], module)
    (plot,) = module["PLOTS"]
    (task_results,) = group_by_task(records)
    for translate in (untranslated, translator("ko")):  # its sentences have no translation
        figure = plot.draw(task_results, translate)
        assert figure.axes[0].get_xlabel() == "size on disk (bytes)"
        assert plot.caption(translate).startswith("Score against")
    without_cost = group_by_task([make_record("majority", cost=None)])[0]
    assert plot.draw(without_cost, untranslated) is None


@pytest.fixture
def page(report: Path) -> Iterator[Any]:
    """The report in a real browser; `complaints` and `requests` collect its messages and its network requests."""
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
        tab.goto(f"file://{report}/index.html")
        yield tab
        browser.close()


def column(page: Any, number: int) -> list[str]:
    """Texts of the visible cells of a column of the results table; the first column is 1."""
    cells = page.locator(f".results tbody tr:visible > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_page_in_browser_sorts_filters_and_shows_tips(page: Any) -> None:
    assert column(page, 1)[:3] == ["lora", "full", "few-shot"]
    page.get_by_role("button", name="method").click()
    assert column(page, 1) == ["few-shot", "full", "lora", "nearest °", "prefix", "qlora"]
    page.get_by_role("button", name="em", exact=False).first.click()
    assert column(page, 2)[:4] == ["80.0 %", "70.0 %", "40.0 %", "20.0 %"]
    page.get_by_role("button", name="em", exact=False).first.click()
    assert column(page, 2)[:4] == ["20.0 %", "40.0 %", "70.0 %", "80.0 %"]
    page.get_by_role("searchbox").fill("lora")
    assert set(column(page, 1)) == {"lora", "qlora"}
    page.get_by_label("failed runs").uncheck()
    assert column(page, 1) == ["lora"]
    page.get_by_role("searchbox").fill("")
    page.get_by_label("controls").uncheck()
    assert set(column(page, 1)) == {"lora", "full", "few-shot"}
    page.locator(".plots .mark use").first.hover()
    assert ": em " in page.locator("#tip").inner_text()
    page.get_by_role("link", name="full").click()
    assert page.locator("details[open]").count() == 1
    assert (page.complaints, len(page.requests)) == ([], 1)


@pytest.mark.parametrize("width", [390, 1440])
def test_page_in_browser_is_legible_at_any_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [figure.bounding_box() for figure in page.locator("figure svg").all()]
    assert len(boxes) == len(plots.all_plots()) - 1
    assert all(box["width"] > 300 and box["height"] > 100 for box in boxes)
    heights = page.evaluate(
        "[...document.querySelectorAll('svg text')].map((text) => text.getBoundingClientRect().height)"
    )
    assert min(heights) > 7
    font_sizes = page.evaluate(
        "[...document.querySelectorAll('p, td, li')].map((node) => parseFloat(getComputedStyle(node).fontSize))"
    )
    assert min(font_sizes) >= 14


def test_task_results_have_metric_and_summaries(records: list[Record]) -> None:
    (task_results,) = group_by_task(records)
    assert task_results.metric == "em"
    labels = [summary.label for summary in task_results.summaries]
    assert labels == ["lora", "full", "few-shot", "nearest", "prefix", "qlora"]


def test_report_of_many_tasks_has_an_overview_and_task_pages(make_record: MakeRecord, tmp_path: Path) -> None:
    num_tasks = pages.MAX_TASKS_ON_ONE_PAGE + 1
    records = [
        make_record(name, em, seed=seed, items=40, task__name=f"task-{number:02}", method__control=name == "nearest")
        for number in range(num_tasks)
        for seed in range(2)
        for name, em in (("lora", 0.8), ("full", 0.5 + 0.35 * (number == 0)), ("nearest", 0.1))
    ]
    records.append(make_record("qlora", status="error", error=DISK_ERROR, task__name="task-00", **FAILED))
    pages.write_report(group_by_task(records), tmp_path)
    overview = (tmp_path / "index.html").read_text("utf-8")
    for number in range(num_tasks):
        assert f'href="tasks/task-{number:02}-bookworm.html"' in overview
        page = (tmp_path / "tasks" / f"task-{number:02}-bookworm.html").read_text("utf-8")
        assert 'href="../index.html"' in page
        assert page.count("<svg") == pages.PLOTS_PER_TASK_PAGE
        assert "seed 0: answers" in page and "seed 1: answers" not in page
    assert "out of disk space" in (tmp_path / "tasks" / "task-00-bookworm.html").read_text("utf-8")
    assert len(pandas.read_csv(tmp_path / "table.csv")) == len(records) // 2 + 1
    assert len(pandas.read_parquet(tmp_path / "records.parquet")) == len(records)
    lines = [line for line in (tmp_path / "report.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert cells["lora"][:3] == ["1.1", "13", "12"]
    assert cells["full"][:3] == ["1.9", "13", "1"]
    assert cells["qlora"] == ["–", "1", "0", "0", "0", "1"]


def test_report_hostile_texts_are_shown_and_change_nothing(make_record: MakeRecord, tmp_path: Path) -> None:
    name, message = "=a<b>*x*![i](e)|_c_", "\x1b[31mred\x07\n\n# head\n\n<img src=x> [a](b) @team"
    error = {"kind": "K", "message": message, "trace": None}
    records = [
        make_record(name, items=40),
        make_record("lora", 0.9, items=40),
        make_record("full", status="error", error=error, **FAILED),
    ]
    pages.write_report(group_by_task(records), tmp_path, load_questions=lambda spec: {"q0": "\x1b[2Jx"})
    for file in tmp_path.rglob("*"):
        if file.suffix in (".html", ".md", ".csv", ".svg"):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", file.read_text("utf-8")), file
    page = MarkdownIt("commonmark").enable("table").render((tmp_path / "report.md").read_text("utf-8"))
    assert "=a&lt;b&gt;*x*![i](e)|_c_" in page and "# head" in page and "[a](b)" in page
    assert not re.search(r'<em>|<h1>|<img src="(?!plots)|<a ', page.replace("<!-- -->", ""))
    labels = list(pandas.read_csv(tmp_path / "table.csv")["label"])
    assert f"'{name}" in labels and "lora" in labels


def test_page_tells_what_was_not_measured_and_not_deterministic(make_record: MakeRecord) -> None:
    env = environment.describe_environment("2026-11-21T00:00:00+00:00", "c" * 64, "NVIDIA H200", 0.0)
    fields = {"deterministic": False, "nondeterministic_operations": ("put_", "cuBLAS")}
    measured, other = make_record("lora"), make_record("full")
    assert measured.cost is not None and other.cost is not None
    phase = measured.cost.phases["fit"].model_copy(update={"energy_j": 42.4})
    measured = measured.model_copy(update={"cost": measured.cost.model_copy(update={"phases": {"fit": phase}})})
    unmeasured = other.cost.model_copy(update={"energy_unmeasured": "the package nvidia-ml-py is missing"})
    other = other.model_copy(update={"cost": unmeasured, "env": env.model_copy(update=fields)})
    (results,) = group_by_task([measured, other])
    view = section_view.SectionView(results, [], {}, untranslated)
    (column,) = [column for column in view.columns if column.heading == "training energy (J)"]
    assert [column.format(column.value(row)) for row in results.summaries] == ["–", "42"]
    assert "Energy was not measured in 1 of 2 runs: the package nvidia-ml-py is missing." in view.caveats
    assert (
        "full seed 0: not deterministic on NVIDIA H200, so the same settings may give other answers (put_, cuBLAS)."
        in view.caveats
    )
