"""Rehearsals: short parts of a run that show how fast this machine is.

A rehearsal loads the model with a method, takes a few training steps and answers a few questions. It runs in a process
of its own, like a run, and its imports serve the runs after it where runs are forked. The figures of a rehearsal are
small files in `~/.cache/adaptbench/rehearsals/`, which may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from bench import scratch
from bench.cpu import available_cores
from bench.execution import launcher
from bench.execution.fork_client import Process
from bench.execution.job import Job
from bench.i18n import Message
from bench.measurement import environment
from bench.method import ProgressCallback
from bench.records import FrozenModel
from bench.records.base import NonNegativeFloat, NonNegativeInt, PositiveInt
from bench.records.files import write_atomically

FOLDER_NAME = "rehearsals"
RESULT_FILE = "rehearsal.json"
SWITCH_VARIABLE = "ADAPTBENCH_REHEARSAL"
"""Environment variable that turns rehearsals off if it is `off`; earlier ones and records are still used."""
MAX_SECONDS = 180.0
"""Seconds after which a rehearsal is given up."""
POLL_S = 0.05


class Rehearsal(FrozenModel):
    """Seconds and amounts of the parts of a run, measured on a few rows."""

    version: Literal[2] = 2
    is_supported: bool = Field(True, description="false: the method does not support this task or model")
    import_s: NonNegativeFloat = Field(description="seconds of the imports")
    load_s: NonNegativeFloat = Field(description="seconds of loading the model")
    general_text_s: NonNegativeFloat = Field(description="estimated seconds of reading the general text once")
    setup_s: NonNegativeFloat = Field(description="seconds of fitting beside the steps, or that do not grow with rows")
    token_s: NonNegativeFloat = Field(description="seconds per trained token; 0: no training steps")
    row_tokens: NonNegativeFloat = Field(description="mean tokens of a training row")
    example_s: NonNegativeFloat = Field(description="seconds of fitting per training example; 0: training steps")
    question_s: NonNegativeFloat = Field(description="seconds of fitting per validation question that is asked")
    max_questions: NonNegativeInt = Field(description="validation questions that the whole run asks at most")
    query_s: NonNegativeFloat = Field(description="seconds of one query alone")
    batch_s: NonNegativeFloat = Field(description="seconds of a batch of queries, beside those per row")
    row_s: NonNegativeFloat = Field(description="seconds per row of a batch of queries")
    batch_rows: PositiveInt = Field(description="rows of a batch in the whole run")
    serves_adapter: bool = Field(description="true: the adapter is loaded, switched and merged at the end")


def find_rehearsal(job: Job) -> Rehearsal | None:
    """Return the figures of an earlier rehearsal of the job; None without one."""
    try:
        return Rehearsal.model_validate_json(_cache_file(job).read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None


def rehearse(job: Job, on_progress: ProgressCallback = lambda state: None) -> Rehearsal | None:
    """Rehearse a job in a process of its own and keep the figures.

    Returns:
        The figures; None if rehearsals are turned off, or this one failed or took too long.
    """
    if not can_rehearse(job):
        return None
    with scratch.scratch_folder() as folder:
        job_file, progress_file, new = folder / "job.json", folder / "progress", folder / "new"
        new.mkdir()
        job_file.write_text(job.model_copy(update={"is_rehearsal": True}).model_dump_json(), "utf-8")
        with (folder / "log").open("w", encoding="utf-8") as log:
            worker = launcher.start_worker(job, [job_file, new, progress_file], log)
            try:
                _wait(worker, job, on_progress)
            finally:
                if worker.returncode is None:
                    worker.kill()
                    worker.wait()
        try:
            rehearsal = Rehearsal.model_validate_json((new / RESULT_FILE).read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None
    file = _cache_file(job)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, rehearsal.model_dump_json(indent=1) + "\n")
    return rehearsal


def can_rehearse(job: Job) -> bool:
    """Return True if one process trains, and rehearsals are not turned off."""
    return job.accelerate is None and os.environ.get(SWITCH_VARIABLE) != "off"


def _wait(worker: Process, job: Job, on_progress: ProgressCallback) -> None:
    """Wait until the process has ended, or for `MAX_SECONDS`."""
    deadline = time.monotonic() + MAX_SECONDS
    while time.monotonic() < deadline:
        try:
            worker.wait(timeout=POLL_S)
            return
        except subprocess.TimeoutExpired:
            on_progress({"phase": Message("measuring {method}", method=job.spec.method.name)})


def _cache_file(job: Job) -> Path:
    """Return the file of a rehearsal, named by everything that can change its figures."""
    spec = job.spec
    facts = {
        "version": Rehearsal.model_fields["version"].default,
        "method": [spec.method.name, job.method_sha256, spec.method.params],
        "model": [spec.base.sha256, spec.base.dtype],
        "task": [spec.task.sha256, spec.prompt.model_dump(), spec.decoding.model_dump()],
        "batch": spec.budget.batch,
        "memory": spec.budget.memory,
        "device": job.device,
        "machine": [environment.processor_name(), available_cores(), environment.compute_threads()],
        "packages": environment.package_versions(),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return scratch.user_cache_folder(FOLDER_NAME) / f"{digest[:32]}.json"
