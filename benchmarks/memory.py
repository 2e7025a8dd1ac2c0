"""Memory: the peak that a record tells beside the one that the system tells from outside.

Run: python benchmarks/memory.py                    (needs /usr/bin/time of GNU, on Linux)
Each job runs three times: under `time -v`; as a worker of its own; and as `bench run` makes it run, forked from a
process that has imported what it needs. The kernel keeps one high-water mark for a process, and the meter sets it back
as a phase begins, so in the first run it is made to leave the mark alone: what the record of that very run tells is
off by the reading alone, what the others tell by how runs differ too. Figures are MiB: the highest of the record's
phases, and the maximum resident set size.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.execution import plan
from bench.execution.job import Job
from bench.execution.launcher import launch_run, worker_environment
from bench.records import Record

METHODS = "few-shot,features,lora,qlora,full"  # and the controls that join
BUDGET = "steps=10,examples=200"


def peak(record: Record) -> float:
    """The highest memory of any phase, MiB."""
    assert record.cost is not None, record.error
    return max(phase.peak_mib or 0.0 for phase in record.cost.phases.values())


def cold(job: Job, folder: Path, *before: str, code: str = "pass") -> str:
    """Run a worker of its own; returns what was said."""
    (folder / "job.json").write_text(job.model_dump_json(), "utf-8")
    files = [str(folder / "job.json"), str(folder), str(folder / "progress")]
    imports = (
        "import sys; from pathlib import Path; from bench.execution import worker; from bench.measurement import meter"
    )
    main = f"{imports}; {code}; worker.main(*sys.argv[1:])"
    command = [*before, sys.executable, "-P", "-c", main, *files]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=worker_environment(job.spec)).stderr


def outside(job: Job, folder: Path) -> float:
    """What `time -v` tells of a worker, MiB."""
    told = cold(job, folder, "/usr/bin/time", "-v", code="meter._CLEAR_REFS_FILE = Path('/dev/null')")
    found = re.search(r"Maximum resident set size \(kbytes\): (\d+)", told)
    assert found is not None, told
    return int(found[1]) / 1024


def main() -> None:
    """One job of every kind of method on a task that ships."""
    jobs = plan.plan_jobs(METHODS, "capitals", "bookworm", seeds=1, budget_text=BUDGET, settings=[])
    print(
        "".join(
            [f"{'method':12}{'time -v':>9}", *(f"{run:>9}{'off by':>17}" for run in ("same run", "cold", "forked"))]
        )
    )
    for job in jobs:
        with (
            tempfile.TemporaryDirectory() as one,
            tempfile.TemporaryDirectory() as two,
            tempfile.TemporaryDirectory() as three,
        ):
            seen = outside(job, Path(one))
            cold(job, Path(two))
            told = [peak(Record.read(Path(place) / f"{job.spec.id}.json")) for place in (one, two)]
            told.append(peak(launch_run(job, Path(three))[0]))
        offs = "".join(f"{mine:9.1f}{mine - seen:+9.1f} {100 * (mine / seen - 1):+6.1f}%" for mine in told)
        print(f"{job.spec.method.name:12}{seen:9.1f}{offs}", flush=True)


if __name__ == "__main__":
    main()
