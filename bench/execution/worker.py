"""One run in one process: from a job to a record. Started as `python -m bench.worker JOB OUT PROGRESS`, or forked."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import cast

from bench import registry, task
from bench.data import hub_tasks
from bench.execution.budget import BudgetTracker
from bench.execution.job import Job
from bench.execution.progress import ProgressFile
from bench.measurement import adapter_serving, device, environment, memory_limit
from bench.measurement.forgetting import ForgettingProbe
from bench.measurement.meter import MIB, Meter, measure_latency
from bench.method import LM, Method, ProgressCallback, TrainingData, Unsupported
from bench.modeling import checkpoint, loaded_model
from bench.modeling.seed import seed_all
from bench.records import artifacts
from bench.records.cost import AdapterServing, Answering, Cost, Parameters, Phase
from bench.records.record import BudgetLimits, Env, Failure, Forgetting, Record, Status
from bench.records.samples import Sample
from bench.training import distributed


def main(job_file: str, out: str, progress_file: str, imported: Phase | None = None) -> None:
    """Run the job and write its record; only a process that dies leaves none.

    `imported` is what importing cost where it was done before this process was forked.
    """
    job = Job.model_validate_json(Path(job_file).read_text("utf-8"))
    with artifacts.record_writer(Path(out), job.spec.id, job.save_artifacts) as (saved, write):
        write(Run(job, ProgressFile(Path(progress_file)), saved, imported).record())


class Run:
    """The steps of a run in their order; keeps what each of them yields, so that a failed run keeps it too."""

    def __init__(
        self, job: Job, watch: ProgressCallback, saved: Path | None = None, imported: Phase | None = None
    ) -> None:
        """What is fitted is left in `saved`, an empty folder, if given; `imported` is what importing cost before."""
        self.job, self.spec, self.watch, self.saved, self.imported = job, job.spec, watch, saved, imported
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.bystander = environment.BackgroundLoad()
        self.method: Method | None = None
        self.device = "cpu"
        self.meter = Meter()
        self.phases: dict[str, Phase] = {}
        self.lm: LM | None = None
        self.budget: BudgetTracker | None = None
        self.parameters: Parameters | None = None
        self.answering: Answering | None = None
        self.alone: Sequence[str] = ()  # what it answered one by one
        self.artifact_bytes: int | None = None
        self.adapter: AdapterServing | None = None
        self.adapter_failure: str | None = None
        self.added: dict[str, int] = {}
        self.recall: ForgettingProbe | None = None
        self.forgetting: Forgetting | None = None
        self.samples: tuple[Sample, ...] = ()

    def record(self) -> Record:
        """Go through all steps; the record, whatever becomes of them."""
        status: Status = "ok"
        failure = None
        try:
            self.go()
        except Unsupported as reason:
            status, failure = "unsupported", Failure(kind="Unsupported", message=str(reason), trace=None)
        except Exception as error:
            status, message = "error", str(error)
            if memory_limit.is_out_of_memory(error):
                status, message = "did-not-fit", f"{self.needed()}{memory_limit.describe_allocation(error)}: {error}"
                memory_limit.lift_memory_limit()
            failure = Failure(kind=type(error).__name__, message=message, trace=traceback.format_exc())
        samples = self.samples if status == "ok" else ()
        metrics = samples[0].scores if samples else ()
        return Record(
            id=self.spec.id,
            status=status,
            spec=self.spec,
            command=self.job.command,
            scores={metric: fmean(sample.scores[metric] for sample in samples) for metric in metrics},
            cost=self.cost(),
            env=self.env(),
            curve=tuple(getattr(self.method, "curve_", ())),
            forgetting=self.forgetting,
            tuning=self.job.tuning,
            error=failure,
            samples=samples,
        )

    def go(self) -> None:
        """Import, load, fit and answer; see what would be deployed, what a query takes and what was forgotten."""
        method, lesson = self.load()
        if self.spec.split == "test" and self.job.questions is None:
            self.remember()
        self.fit(method, lesson, self.spec.budget)
        with TemporaryDirectory() as scratch:
            saved = self.saved or Path(scratch)
            self.keep(method, saved)
            if self.job.questions is not None:
                self.ask(method, self.job.questions)
                return
            self.examine(method)
            if self.spec.split == "test":
                self.time(method)
                self.forget()
                self.serve(method, saved)

    def load(self) -> tuple[Method, TrainingData]:
        """Import and load; the method, and what it is to learn."""
        self.watch({"phase": "import"})
        with self.meter.phase("import", since_process_start=True):
            method = self.method = self.prepare()
        self.phases = {"import": self.meter.phases["import"].continued_from(self.imported)}
        self.meter = Meter(self.device, self.job.processes)
        base = checkpoint.Checkpoint(self.folder, self.spec.base.dtype, self.device, self.spec.decoding)
        lesson = self.task.training_data(self.spec.seed, self.spec.budget.examples)
        if self.spec.budget.memory is not None:
            memory_limit.set_memory_limit(self.spec.budget.memory, self.device)
        self.watch({"phase": "load"})
        seed_all(self.spec.seed)
        with self.meter.phase("load"):
            self.lm = method.load(base)
        self.forecast("load")
        return method, lesson

    def fit(self, method: Method, lesson: TrainingData, grant: BudgetLimits) -> None:
        """Adapt; of several processes those that came to help leave then."""
        distributed.barrier()
        self.watch({"phase": "fit"})
        seed_all(self.spec.seed)
        with self.meter.phase("fit"):
            self.budget = BudgetTracker(grant, len(lesson.train), self.watch)
            method.fit(cast(LM, self.lm), lesson, self.budget)  # a method that loads no model ignores it
            self.budget.stop()
        self.bystander.own -= distributed.leave_group()  # what helped was no other's

    def prepare(self) -> Method:
        """Import what the method needs, read the task, find the model."""
        cls = registry.find_method(self.spec.method.ref)
        for module in cls.preload_modules:
            importlib.import_module(module)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(environment.threads())
            self.device = device.torch_device(self.job.device, distributed.is_distributed(self.job.processes))
            distributed.join(self.job.processes, self.device)
        self.task = hub_tasks.load_task(registry.find_task(self.spec.task.ref), fetch=False)
        self.folder = registry.find_model(self.spec.base.ref)
        if (self.task.sha256, checkpoint.weights_digest(self.folder)) != (self.spec.task.sha256, self.spec.base.sha256):
            raise RuntimeError("the task or the model was changed after the run was planned; run the command again")
        return cls(**self.spec.method.params)

    def keep(self, method: Method, folder: Path) -> None:
        """Save what would be deployed, and count it."""
        method.save(folder)
        self.artifact_bytes, kept = artifacts.folder_bytes(folder)
        if self.lm is not None:
            total, trainable = self.lm.count_parameters()
            self.parameters = Parameters(total=total, trainable=trainable, saved=kept)

    def examine(self, method: Method) -> None:
        """Answer the questions and score the answers."""
        rows = self.task.splits[self.spec.split]
        questions = [row.input for row in rows]
        self.watch({"phase": "predict"})
        if self.lm is not None:
            self.lm.token_usage = type(self.lm.token_usage)()  # what a method answered while fitting is no query
        with self.meter.phase("predict"):
            answers = method.predict(questions)
        if len(answers) != len(rows):
            raise RuntimeError(f"predict gave {len(answers)} answers to {len(rows)} questions")
        tally = vars(self.lm.token_usage) | loaded_model.describe_reading(self.lm) if self.lm is not None else {}
        self.samples = tuple(self.mark(row, answer) for row, answer in zip(rows, answers, strict=True))
        self.answering = Answering(queries=len(rows), latency_ms=(), **tally)
        self.forecast("predict")

    def ask(self, method: Method, questions: Sequence[str]) -> None:
        """Answer questions that are no exam."""
        answers = method.predict(questions) if questions else []
        self.samples = tuple(
            Sample(id=str(place), references=(), raw=raw, answer=self.task.parse(self.task.trim(raw)), scores={})
            for place, raw in enumerate(answers)
        )

    def time(self, method: Method) -> None:
        """Answer some questions one by one."""
        assert self.answering is not None
        self.watch({"phase": "latency"})
        with self.meter.phase("latency"):
            self.alone, latency = measure_latency(
                method.predict, [row.input for row in self.task.splits[self.spec.split]]
            )
        self.answering = self.answering.model_copy(update={"latency_ms": latency})

    def remember(self) -> None:
        """Read the general text with the model as loaded: whether the method will train it is not known yet."""
        text = registry.general_text_file()
        if self.lm is not None and self.lm.can_generate and text is not None:
            self.watch({"phase": "general_text_before"})
            with self.meter.phase("general_text_before"):
                self.recall = ForgettingProbe.before(self.lm, text)
            if (torch := sys.modules.get("torch")) is not None:
                torch.cuda.empty_cache()  # or what reading had reserved would count as fitting's

    def forget(self) -> None:
        """Read the general text again if the model has been trained."""
        if self.lm is not None and self.recall is not None and self.lm.count_parameters()[1] > 0:
            self.watch({"phase": "general_text_after"})
            with self.meter.phase("general_text_after"):
                self.forgetting = self.recall.after(self.lm)

    def serve(self, method: Method, saved: Path) -> None:
        """See what an adapter is like in service, the last thing of all: it leaves the model changed."""
        if self.lm is None or not adapter_serving.can_serve(self.lm.model, saved):
            return
        questions = [row.input for row in self.task.splits[self.spec.split]][: len(self.alone)]
        self.watch({"phase": "adapter_serving"})
        with self.meter.phase("adapter_serving"):
            try:
                self.adapter = adapter_serving.measure_serving(
                    self.lm.model, saved, questions, self.alone, method.predict
                )
            except Exception as error:  # all that counts has been measured by now, and must not be lost for this
                self.adapter_failure = f"{type(error).__name__}: {error}"

    def forecast(self, phase: str) -> None:
        """Reckon what a phase should have added to the memory held before it."""
        if self.lm is None:
            return
        from bench.measurement import memory_estimate

        if phase == "load":
            self.added[phase] = memory_estimate.model_bytes(self.lm.model)
        elif self.answering is not None and self.answering.longest_prompt_tokens:
            own = self.answering.longest_prompt_tokens - (self.answering.shared_prefix_tokens or 0)
            longest = own + self.lm.max_new_tokens
            rows = min(memory_estimate.max_batch_rows(self.lm.model, longest), self.answering.queries)
            self.added[phase] = memory_estimate.generation_bytes(self.lm.model, rows, longest)

    def mark(self, row: task.TaskRow, raw: str) -> Sample:
        """One answer, trimmed and scored the same way for every method."""
        text = self.task.trim(raw)
        scores = self.task.score(text, row.references)
        return Sample(id=row.id, references=row.references, raw=raw, answer=self.task.parse(text), scores=scores)

    def cost(self) -> Cost:
        """All that was measured up to now."""
        added = self.added | (
            {"fit": self.budget.estimated_bytes} if self.budget and self.budget.estimated_bytes else {}
        )
        return Cost(
            phases={name: _beside(phase, added.get(name)) for name, phase in (self.phases | self.meter.phases).items()},
            memory_source=self.meter.instrument,
            parameters=self.parameters,
            budget_usage=self.budget.usage() if self.budget else None,
            answering=self.answering,
            artifact_bytes=self.artifact_bytes,
            adapter_serving=self.adapter,
            adapter_serving_error=self.adapter_failure,
        )

    def needed(self) -> str:
        """What training takes at the least, where that has been reckoned."""
        fit = self.cost().phases.get("fit")
        known = fit is not None and fit.estimated_mib is not None
        return f"training takes {fit.estimated_mib:.0f} MiB one row at a time; " if fit and known else ""

    def env(self) -> Env:
        """Where and with what the run was made."""
        matmul = None
        if "torch" in sys.modules and self.spec.split == "test":
            from bench.measurement import flops

            matmul = flops.measure_peak_flops(self.device)
        others, digest = self.bystander.background_cores(), self.job.method_sha256
        return environment.describe_environment(self.started, digest, self.device, others, matmul, self.job.processes)


def _beside(phase: Phase, added: int | None) -> Phase:
    """The phase with the peak that was to be expected."""
    if added is None or phase.start_mib is None:
        return phase
    return phase.model_copy(update={"estimated_mib": round(phase.start_mib + added / MIB, 3)})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
