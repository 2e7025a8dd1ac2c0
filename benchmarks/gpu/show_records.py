"""Print records as short rows, failed ones with their error, and whether repeated runs gave the same answers.

Run: python benchmarks/gpu/show_records.py FOLDER...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

MIB = 2**20
CONTROLS = ("majority", "nearest")
PHASES = ("load", "fit", "predict")
HEADER = (
    "run | status | em, parsed | load, fit, predict s, latency ms | tokens/s answered, trained (steps, micro-batch) | "
    "MiB start → peak (estimated) reserved: load; fit; predict | context, host MiB | J fit | "
    "TFLOP/s trained, of matmul by dtype | deterministic"
)
TRACE_LINES = 14

Json = dict[str, Any]


def number(value: float | None, digits: int = 0) -> str:
    """Format a number; a dash if it was not measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def memory_text(phases: Json) -> str:
    """Describe the memory of the phases."""
    return "; ".join(
        f"{number(phase['start_mib'])} → {number(phase['peak_mib'])} ({number(phase['estimated_mib'])}) "
        f"{number(phase['reserved_mib'])}"
        for phase in (phases[name] for name in PHASES if name in phases)
    )


def row_text(folder: str, record: Json) -> str:
    """Describe a record in one line."""
    cost, spec, scores = record["cost"] or {}, record["spec"], record["scores"]
    phases, usage, answering = cost.get("phases", {}), cost.get("budget_usage") or {}, cost.get("answering") or {}
    wall = {name: phase["wall_s"] for name, phase in phases.items()}
    seconds, steps, flops = usage.get("seconds") or 0, usage.get("steps") or 0, usage.get("flops")
    answered = answering["answer_tokens"] / wall["predict"] if answering.get("answer_tokens") else None
    trained = usage["tokens"] / seconds if steps and seconds else None
    latency = median(answering["latency_ms"]) if answering.get("latency_ms") else None
    env = record["env"] or {}
    rates = env.get("matmul_flops_per_s_by_dtype") or {}
    host_mib = max((phase.get("host_peak_mib") or 0 for phase in phases.values()), default=None)
    limit = spec["budget"]["memory"]
    return " | ".join(
        [
            f"{folder}: {spec['method']['name']} {spec['base']['dtype']}" + (f" ≤ {limit // MIB} MiB" if limit else ""),
            record["status"],
            f"{number(scores.get('em'), 3)}, {number(scores.get('parsed'), 2)}",
            ", ".join(number(wall.get(name), 1) for name in PHASES) + f", {number(latency, 1)}",
            f"{number(answered)}, {number(trained)} ({steps}, {usage.get('micro_batch') or '–'})",
            memory_text(phases),
            f"{number(cost.get('context_mib'))}, {number(host_mib)}",
            number(phases.get("fit", {}).get("energy_j")),
            ", ".join(
                [number(flops / seconds / 1e12 if flops and seconds else None, 2)]
                + [f"{name} {number(rate / 1e12, 1)}" for name, rate in rates.items()]
            ),
            f"{env.get('deterministic')} {', '.join(env.get('nondeterministic_operations') or ())}".strip(),
        ]
    )


def error_lines(record: Json) -> list[str]:
    """Describe what failed in a run, and an adapter that does not answer as the run did."""
    lines, cost, error = [], record["cost"] or {}, record["error"] or {}
    if record["status"] != "ok":
        lines.append(f"    {error.get('kind')}: {(error.get('message') or '')[:400]}")
    if record["status"] == "error":
        lines += [f"      {line}" for line in (error.get("trace") or "").splitlines()[-TRACE_LINES:]]
    if cost.get("adapter_serving_error"):
        lines.append(f"    adapter: {cost['adapter_serving_error'][:300]}")
    serving = cost.get("adapter_serving") or {}
    agreement = {name: serving.get(name) for name in ("reload_agreement", "merge_agreement")}
    if any(value is not None and value < 1 for value in agreement.values()):
        lines.append(f"    adapter: {agreement}")
    return lines


def repeat_lines(records: dict[str, list[tuple[str, Json]]]) -> list[str]:
    """Compare answers and validation losses of the first two runs of each id that ran more than once."""
    lines = []
    for record_id, runs in records.items():
        if len(runs) < 2 or any(record["status"] != "ok" or not record["curve"] for _, record in runs):
            continue
        (first_folder, first), (second_folder, second) = runs[:2]
        pairs = list(zip(first["samples"], second["samples"], strict=True))
        same = sum(one["raw"] == other["raw"] for one, other in pairs)
        gaps = [
            abs(one["validation_loss"] - other["validation_loss"])
            for one, other in zip(first["curve"], second["curve"], strict=False)
        ]
        lines.append(
            f"repeated: {record_id} in {first_folder} and {second_folder}: {same} of {len(pairs)} answers the same, "
            f"losses differ by at most {max(gaps):.2e}"
        )
    return lines


def main(folders: list[str]) -> None:
    """Print all records of the folders, without controls that ran well."""
    print(HEADER)
    records: dict[str, list[tuple[str, Json]]] = defaultdict(list)
    for folder in map(Path, folders):
        for file in sorted(folder.glob("*.json")):
            record = json.loads(file.read_text("utf-8"))
            if record["spec"]["method"]["name"] in CONTROLS and record["status"] == "ok":
                continue
            records[record["id"]].append((folder.name, record))
            print("\n".join([row_text(folder.name, record), *error_lines(record)]))
    print("\n".join(repeat_lines(records)))


if __name__ == "__main__":
    main(sys.argv[1:])
