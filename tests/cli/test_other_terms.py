"""Records of one folder whose settings differ: report and advice show the newest and name the others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas
import pytest
from conftest import Bench, MakeRecord

from bench.measurement import environment


@pytest.fixture
def results(make_record: MakeRecord, tmp_path: Path) -> Path:
    """A folder with two quick runs and, of the next day, two standard runs on the same task and model."""
    for day, budget, score in ((3, {"examples": 200, "epochs": 1}, 0.2), (4, {"epochs": 3}, 0.6)):
        env = environment.describe_environment(f"2026-11-{day:02}T10:00:00+00:00", "d" * 64, "cpu", 0.0).model_dump()
        for name in ("lora", "full"):
            make_record(name, score, items=40, env=env, budget=budget).write(tmp_path / "results")
    return tmp_path


def test_report_other_terms_shows_the_newest_and_names_the_others(run_bench: Bench, results: Path) -> None:
    done = run_bench("report", "--out", "page")
    assert (done.returncode, done.stdout.strip()) == (0, "page/index.html")
    found = re.search(r"2 runs of 2026-11-03 10:00, budget quick → standard. To show them: (bench .*)", done.stderr)
    assert found, done.stderr
    for name in ("index.html", "report.md"):
        text = (results / "page" / name).read_text("utf-8")
        assert "budget quick → standard" in text
        assert found[1] in text
    assert set(pandas.read_csv(results / "page" / "table.csv")["em"]) == {0.6}


def test_report_all_terms_has_a_section_for_each(run_bench: Bench, results: Path) -> None:
    done = run_bench("report", "results", "--out", "page", "--terms", "all", "--lang", "ko")
    assert (done.returncode, done.stderr) == (0, "")
    page = (results / "page" / "index.html").read_text("utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["feelings · bookworm · standard", "feelings · bookworm · quick"]
    table = pandas.read_csv(results / "page" / "table.csv", dtype=str)
    assert table.groupby("terms")["label"].count().tolist() == [2, 2]


def test_advise_other_terms_says_which_were_taken(run_bench: Bench, results: Path) -> None:
    text = run_bench("advise")
    assert text.returncode == 0, text.stderr
    assert "budget quick → standard" in " ".join(text.stdout.split())
    (advice,) = json.loads(run_bench("advise", "--format", "json").stdout)
    terms = advice["terms"]
    assert (terms["budget"], terms["runs"], terms["newest"][:10]) == ("standard", 2, "2026-11-04")
    (other,) = terms["others"]
    assert (other["budget"], other["runs"]) == ("quick", 2)
    assert other["differences"] == {"budget": ["quick", "standard"]}
    (command,) = re.findall(r"(advise --terms (?!all)\w+)", " ".join(text.stdout.split()))
    assert command.endswith(other["id"])
    (chosen,) = json.loads(run_bench(*command.split(), "--format", "json").stdout)
    assert chosen["terms"]["id"] == other["id"]
    assert chosen["candidates"][0]["score"] == 0.2
    assert "예산 standard → quick" in run_bench(*command.split(), "--lang", "ko").stdout
    refused = run_bench("advise", "--terms", "nothing")
    assert refused.returncode == 2
    assert f"{other['id']} (feelings, bookworm, quick)" in refused.stderr
