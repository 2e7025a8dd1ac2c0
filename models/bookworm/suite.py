"""Run methods on the shipped tasks with bookworm and write their table into README.md.

`python models/bookworm/suite.py` runs three seeds of each; `--write` only writes the table of the existing records.
"""

import argparse
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from bench.analysis.summary import forgetting_nats
from bench.records.record import Record, read_all

HERE = Path(__file__).parent
SUITE_RUNS = (
    ("bookrec", "few-shot,lora,qlora,full,random-weights", None),
    ("bookrec", "few-shot", "few-shot.k=1"),
    ("bookrec", "few-shot", "few-shot.k=8"),
    ("card-json", "few-shot,lora,qlora,full", None),
    ("kdc", "features,head,few-shot", None),
    ("fruit-sums", "few-shot,cot", None),
    ("capitals", "few-shot", None),
    ("capitals", "few-shot", "few-shot.k=1"),
    ("capitals", "few-shot", "few-shot.k=8"),
)
TABLE_HEAD = "| task | method | em | per seed | format | Δ loss | params | train s | ms/query |"
TABLE_PATTERN = re.compile(r"(?<=<!-- suite -->\n).*?(?=<!-- /suite -->)", re.DOTALL)


def run_suite(tasks: list[str], seeds: int, out: Path) -> None:
    """Run the methods that have no record yet; the first failure raises CalledProcessError."""
    for task, methods, setting in SUITE_RUNS:
        if not tasks or task in tasks:
            command = [sys.executable, "-m", "bench", "run", "--methods", methods, "--task", task]
            command += ["--seeds", str(seeds), "--out", str(out), *(["--set", setting] if setting else [])]
            subprocess.run(command, check=True)


def render_table(records: list[Record]) -> str:
    """Return a Markdown table of the methods by task, best first; a dash: not measured."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.task.name, record.spec.key].append(record)
    order = list(dict.fromkeys(task for task, _, _ in SUITE_RUNS))
    rows = sorted(groups.values(), key=lambda group: (order.index(group[0].spec.task.name), -_mean_score(group, "em")))
    return "\n".join([TABLE_HEAD, "|---|---|" + "---:|" * 7, *(_table_row(group) for group in rows)]) + "\n"


def _table_row(group: list[Record]) -> str:
    spec, cost = group[0].spec, group[0].cost
    name = f"{spec.method.name}{' °' if spec.method.control else ''}"
    name += f" (k={spec.method.params['k']})" if spec.method.name == "few-shot" else ""
    if any(record.status != "ok" for record in group):
        return f"| {spec.task.name} | {name} | {', '.join(record.status for record in group)} | | | | | | |"
    seeds = " ".join(f"{record.scores['em']:.3f}"[1:] for record in sorted(group, key=lambda record: record.spec.seed))
    trained = cost.parameters.trainable if cost and cost.parameters else 0
    cells = [spec.task.name, name, f"**{_mean_score(group, 'em'):.3f}**", seeds]
    cells.append(f"{_mean_score(group, 'format'):.2f}" if "format" in group[0].scores else "–")
    loss_changes = [loss_change for loss_change in map(forgetting_nats, group) if loss_change is not None]
    cells.append(f"{fmean(loss_changes):+.2f}" if loss_changes else "–")
    cells.append(f"{trained:,}" if trained else "–")
    cells.append(f"{fmean(record.cost.phases['fit'].wall_s for record in group if record.cost):.1f}")
    latencies = [
        ms for record in group if record.cost and record.cost.answering for ms in record.cost.answering.latency_ms
    ]
    cells.append(f"{sorted(latencies)[len(latencies) // 2]:.1f}")
    return f"| {' | '.join(cells)} |"


def _mean_score(group: list[Record], metric: str) -> float:
    return fmean(record.scores.get(metric, 0.0) for record in group)


def main() -> None:
    """Run the suite, unless `--write` is given, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names of tasks, by default all of the suite")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--out", type=Path, default=Path("results/suite"), help="folder of the records")
    parser.add_argument("--write", action="store_true", help="write the table without running")
    args = parser.parse_args()
    if not args.write:
        run_suite(args.tasks, args.seeds, args.out)
    model_card = HERE / "README.md"
    table_text = render_table(list(read_all(args.out)))
    model_card.write_text(TABLE_PATTERN.sub(lambda _: table_text, model_card.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
