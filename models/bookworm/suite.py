"""What methods earn on the shipped tasks with this model: `python models/bookworm/suite.py` runs them, for three seeds.

Afterwards, or with `--write` at once from the records there are, the table goes into README.md.
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
RUNS = (
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
HEAD = "| task | method | em | per seed | format | Δ loss | params | train s | ms/query |"
MARKED = re.compile(r"(?<=<!-- suite -->\n).*?(?=<!-- /suite -->)", re.DOTALL)


def run(tasks: list[str], seeds: int, out: Path) -> None:
    """Run what has no record yet; a failure ends it."""
    for task, methods, setting in RUNS:
        if not tasks or task in tasks:
            command = [sys.executable, "-m", "bench", "run", "--methods", methods, "--task", task]
            command += ["--seeds", str(seeds), "--out", str(out), *(["--set", setting] if setting else [])]
            subprocess.run(command, check=True)


def table(records: list[Record]) -> str:
    """One row for each method and setting of each task, best first; dashes where nothing was measured."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.spec.task.name, record.spec.key].append(record)
    order = list(dict.fromkeys(task for task, _, _ in RUNS))
    rows = sorted(groups.values(), key=lambda group: (order.index(group[0].spec.task.name), -_mean(group, "em")))
    return "\n".join([HEAD, "|---|---|" + "---:|" * 7, *(_row(group) for group in rows)]) + "\n"


def _row(group: list[Record]) -> str:
    spec, cost = group[0].spec, group[0].cost
    name = f"{spec.method.name}{' °' if spec.method.control else ''}"
    name += f" (k={spec.method.params['k']})" if spec.method.name == "few-shot" else ""
    if any(record.status != "ok" for record in group):
        return f"| {spec.task.name} | {name} | {', '.join(record.status for record in group)} | | | | | | |"
    seeds = " ".join(f"{record.scores['em']:.3f}"[1:] for record in sorted(group, key=lambda one: one.spec.seed))
    trained = cost.parameters.trainable if cost and cost.parameters else 0
    cells = [spec.task.name, name, f"**{_mean(group, 'em'):.3f}**", seeds]
    cells.append(f"{_mean(group, 'format'):.2f}" if "format" in group[0].scores else "–")
    forgot = [told for record in group if (told := forgetting_nats(record)) is not None]
    cells.append(f"{fmean(forgot):+.2f}" if forgot else "–")
    cells.append(f"{trained:,}" if trained else "–")
    cells.append(f"{fmean(record.cost.phases['fit'].wall_s for record in group if record.cost):.1f}")
    times = [ms for record in group if record.cost and record.cost.answering for ms in record.cost.answering.latency_ms]
    cells.append(f"{sorted(times)[len(times) // 2]:.1f}")
    return f"| {' | '.join(cells)} |"


def _mean(group: list[Record], metric: str) -> float:
    return fmean(record.scores.get(metric, 0.0) for record in group)


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help="only these tasks")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method")
    parser.add_argument("--out", type=Path, default=Path("results/suite"), help="folder of the records")
    parser.add_argument("--write", action="store_true", help="only write the table")
    asked = parser.parse_args()
    if not asked.write:
        run(asked.tasks, asked.seeds, asked.out)
    card = HERE / "README.md"
    card.write_text(MARKED.sub(lambda _: table(list(read_all(asked.out))), card.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
