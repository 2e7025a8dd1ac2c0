"""A lesson told in another way: what a method changes of it, and the lesson's own everything else."""

from typing import Any, cast

from bench.method import TrainingData


class Retold:
    """Everything of a lesson but what is given anew by name."""

    def __init__(self, lesson: TrainingData, **anew: Any) -> None:
        self._lesson = lesson
        vars(self).update(anew)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lesson, name)


def retold(lesson: TrainingData, **anew: Any) -> TrainingData:
    """The lesson with some of its attributes or functions replaced."""
    return cast(TrainingData, Retold(lesson, **anew))
