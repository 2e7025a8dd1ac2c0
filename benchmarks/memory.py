"""Compare the peak memory of a record with the peak that the operating system reports.

Run: python benchmarks/memory.py                    (needs GNU /usr/bin/time, on Linux)

Each job runs three times: under `time -v`; in a worker process of its own; and as `bench run` runs it, forked from a
process that has imported the libraries. The kernel keeps one high-water mark per process, and the memory meter resets
it at the start of each phase; in the first run it is kept from doing so. The difference between the record of that
run and `time -v` is therefore the error of the reading alone; differences of the other runs include the variation
between runs. Figures are MiB: the highest peak of all phases, and the maximum resident set size.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.execution import plan
from bench.execution.job import Job
from bench.execution.launcher import launch_run, worker_environment
from bench.records import Record

METHODS = "few-shot,features,lora,qlora,full"  # the controls join them
BUDGET = "steps=10,examples=200"
KEEP_HIGH_WATER_MARK = "meter._CLEAR_REFS_FILE = Path('/dev/null')"


def peak_mib(record: Record) -> float:
    """Return the highest peak memory of all phases, MiB."""
    assert record.cost is not None, record.error
    return max(phase.peak_mib or 0.0 for phase in record.cost.phases.values())


def run_worker(job: Job, folder: Path, *prefix: str, setup: str = "pass") -> str:
    """Run a job in a new worker process; returns its standard error."""
    (folder / "job.json").write_text(job.model_dump_json(), "utf-8")
    files = [str(folder / "job.json"), str(folder), str(folder / "progress")]
    imports = "import sys; from pathlib import Path; from bench.execution import worker; "
    code = f"{imports}from bench.measurement import meter; {setup}; worker.main(*sys.argv[1:])"
    command = [*prefix, sys.executable, "-P", "-c", code, *files]
    environment = worker_environment(job.spec)
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr


def system_peak_mib(job: Job, folder: Path) -> float:
    """Run a job under `time -v`; returns the maximum resident set size, MiB."""
    output = run_worker(job, folder, "/usr/bin/time", "-v", setup=KEEP_HIGH_WATER_MARK)
    match = re.search(r"Maximum resident set size \(kbytes\): (\d+)", output)
    assert match is not None, output
    return int(match[1]) / 1024


def main() -> None:
    """Run one job of every kind of method on a shipped task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS, help="methods, separated by commas")
    options = parser.parse_args()
    jobs = plan.plan_jobs(options.methods, "capitals", "bookworm", seeds=1, budget_text=BUDGET, settings=[])
    columns = "".join(f"{run:>9}{'difference':>17}" for run in ("same run", "new", "forked"))
    print(f"{'method':12}{'time -v':>9}{columns}")
    for job in jobs:
        with tempfile.TemporaryDirectory() as scratch:
            folders = [Path(scratch) / name for name in ("same", "new", "forked")]
            for folder in folders:
                folder.mkdir()
            system_peak = system_peak_mib(job, folders[0])
            run_worker(job, folders[1])
            peaks = [peak_mib(Record.read(folder / f"{job.spec.id}.json")) for folder in folders[:2]]
            peaks.append(peak_mib(launch_run(job, folders[2])[0]))
        cells = "".join(
            f"{peak:9.1f}{peak - system_peak:+9.1f} {100 * (peak / system_peak - 1):+6.1f}%" for peak in peaks
        )
        print(f"{job.spec.method.name:12}{system_peak:9.1f}{cells}", flush=True)


if __name__ == "__main__":
    main()
