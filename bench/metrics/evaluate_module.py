"""Metrics of the library `evaluate`, computed from all answers together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.metrics.names import EVALUATE_PREFIX
from bench.user_code import describe_exception, report_user_code

_NAME = re.compile(rf"{EVALUATE_PREFIX}(?P<module>[^#]+?)(?:#(?P<key>.+?))?(?P<percent>/100)?")
PERCENT_SUFFIX = "/100"


@dataclass(frozen=True)
class EvaluateMetric:
    """A metric of `evaluate` as a task card names it: `evaluate:MODULE#KEY/100`."""

    name: str
    """The whole name."""
    module: str
    """Name on the hub, or a script or folder within the task folder, which begins with `./`."""
    key: str | None
    """The value to take, where the metric returns several."""
    is_percentage: bool

    @classmethod
    def parse(cls, name: str) -> EvaluateMetric:
        """Return the parts of a name.

        Raises:
            UserError: The name does not have this form.
        """
        match = _NAME.fullmatch(name)
        if match is None or match["module"].startswith(("/", "../")) or "/../" in match["module"]:
            raise UserError(
                Message("'{name}' names no metric of evaluate", name=name),
                hint=Message("evaluate:NAME, or evaluate:./FILE.py within the task folder; #KEY and /100 may follow"),
            )
        return cls(name, match["module"].rstrip("/"), match["key"], match["percent"] is not None)

    @property
    def is_local(self) -> bool:
        """True for a script of the task."""
        return self.module.startswith("./")

    def scripts(self, folder: Path) -> list[Path]:
        """Return the files of a local metric, its own script first; none for a metric of the hub.

        A folder has a script of its own name, and all its Python files belong to the metric.
        """
        if not self.is_local:
            return []
        path = folder / self.module
        if not path.is_dir():
            return [path]
        script = path / f"{path.name}.py"
        return [script, *sorted(file for file in path.rglob("*.py") if file != script)]

    def load(self, folder: Path) -> LoadedMetric:
        """Load the metric.

        Args:
            folder: Folder of the task.

        Raises:
            UserError: `evaluate` is not installed; the metric is not found, fails, or does not take texts.
        """
        scripts = self.scripts(folder)
        if scripts and not scripts[0].is_file():
            raise UserError(
                Message("'{name}': the script is missing", name=self.name),
                location=str(scripts[0]),
                hint=Message("add it, or write the name of a file in the task folder after evaluate:./"),
            )
        module = _load_script(self, scripts[0]) if scripts else _load_from_hub(self)
        return LoadedMetric(self, module, _takes_lists(self, module))


@dataclass(frozen=True)
class LoadedMetric:
    """A metric of `evaluate` that is ready to compute."""

    metric: EvaluateMetric
    module: Any
    """The `evaluate.EvaluationModule`."""
    takes_lists: bool
    """True if it takes a list of references for each answer."""

    def compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """Return the value of all answers together.

        Some metrics demand equally many references of all questions, so the first of a question is repeated.

        Raises:
            UserError: The metric returned no number, or several values and the name has no key.
        """
        longest = max((len(texts) for texts in references), default=1)
        padded = [[*texts, *[texts[0]] * (longest - len(texts))] for texts in references]
        given = padded if self.takes_lists else [texts[0] for texts in references]
        values = self.module.compute(predictions=list(predictions), references=given)
        value = self._select(values)
        return value / 100 if self.metric.is_percentage else value

    def _select(self, values: Any) -> float:
        """Return the value that the name of the metric means."""
        key = self.metric.key
        names = sorted(map(str, values)) if isinstance(values, dict) else []
        if key is None and len(names) != 1:
            raise UserError(
                Message("'{name}' returns several values", name=self.metric.name),
                hint=Message(
                    "write {name}#KEY with one of: {names}",
                    name=self.metric.name.removesuffix(PERCENT_SUFFIX),
                    names=", ".join(names) or Message("none"),
                ),
            )
        if key is not None and key not in names:
            raise UserError(
                Message("'{name}' returns no value '{key}'", name=self.metric.name, key=key),
                hint=did_you_mean(key, names),
            )
        value = values[key or names[0]]
        try:
            return float(value)
        except (TypeError, ValueError):
            raise UserError(
                Message("'{name}' returns no number: {value}", name=self.metric.name, value=repr(value)[:60]),
                hint=Message("call it in corpus_score of a task.py, which can convert its values"),
            ) from None


def local_scripts(names: Iterable[str], folder: Path) -> list[Path]:
    """Return the files of the local metrics among some names of metrics, in their order.

    Raises:
        UserError: A name that begins as one of `evaluate` is invalid.
    """
    metrics = [EvaluateMetric.parse(name) for name in names if name.startswith(EVALUATE_PREFIX)]
    return list(dict.fromkeys(file for metric in metrics for file in metric.scripts(folder)))


def _import_evaluate(metric: EvaluateMetric) -> Any:
    try:
        import evaluate
    except ImportError:
        raise UserError(
            Message("'{name}' needs the library evaluate", name=metric.name),
            hint="pip install 'adaptbench[evaluate]'",
        ) from None
    evaluate.logging.set_verbosity_error()
    evaluate.logging.disable_progress_bar()
    return evaluate


def _load_script(metric: EvaluateMetric, script: Path) -> Any:
    """Load a script of the task, which `evaluate` copies into its cache."""
    evaluate = _import_evaluate(metric)
    hint = Message("write it as https://huggingface.co/docs/evaluate/creating_and_sharing describes")
    with report_user_code(script, Message("the metric cannot be loaded"), hint=hint):
        return evaluate.load(str(script), keep_in_memory=True)


def _load_from_hub(metric: EvaluateMetric) -> Any:
    """Load a metric from the cache, or else from the hub.

    So all runs compute what the first one did.
    """
    if Path(metric.module, f"{Path(metric.module).name}.py").is_file():
        raise UserError(
            Message("'{name}' is also a folder here, which evaluate would load", name=metric.name),
            hint=Message("move the folder into the task folder and write evaluate:./{name}", name=metric.module),
        )
    evaluate = _import_evaluate(metric)
    was_offline = evaluate.config.HF_EVALUATE_OFFLINE
    error: Exception | None = None
    for is_offline in (True, was_offline):
        evaluate.config.HF_EVALUATE_OFFLINE = is_offline
        try:
            return evaluate.load(metric.module, keep_in_memory=True)
        except Exception as raised:
            error = raised
        finally:
            evaluate.config.HF_EVALUATE_OFFLINE = was_offline
    raise UserError(
        Message(
            "'{name}' cannot be loaded: {problem}", name=metric.name, problem=describe_exception(error or OSError())
        ),
        hint=Message(
            'check the name; without a connection it has to be in the cache (load it once: python -c "import evaluate; '
            "evaluate.load('{module}')\") or in the task folder (evaluate:./FILE.py)",
            module=metric.module,
        ),
    ) from None


def _takes_lists(metric: EvaluateMetric, module: Any) -> bool:
    """Tell if a metric takes lists of references.

    Raises:
        UserError: It takes no texts.
    """
    features = module.features if isinstance(module.features, list) else [module.features]
    formats = [
        each for each in features if set(each) == {"predictions", "references"} and _is_text(each["predictions"])
    ]
    if any(_is_text(getattr(each["references"], "feature", None)) for each in formats):
        return True
    if any(_is_text(each["references"]) for each in formats):
        return False
    raise UserError(
        Message("'{name}' does not compare texts with texts: it takes {features}", name=metric.name, features=features),
        hint=Message("call it in corpus_score of a task.py, which can convert the answers"),
    )


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")
