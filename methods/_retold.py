"""A data told in another way: what a method changes of it, and the data's own everything else."""

from typing import Any, cast

from bench.method import TrainingData


class Retold:
    """Everything of a data but what is given anew by name."""

    def __init__(self, data: TrainingData, **anew: Any) -> None:
        self._lesson = data
        vars(self).update(anew)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lesson, name)


def retold(data: TrainingData, **anew: Any) -> TrainingData:
    """The data with some of its attributes or functions replaced."""
    return cast(TrainingData, Retold(data, **anew))
