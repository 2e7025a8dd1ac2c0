"""Training data with replaced parts, for methods that present a task in another form."""

from typing import Any, cast

from bench.method import TrainingData


class _Override:
    """Attributes given by keyword, and all others of the original training data."""

    def __init__(self, original: TrainingData, **replacements: Any) -> None:
        self._original = original
        vars(self).update(replacements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def override_training_data(data: TrainingData, **replacements: Any) -> TrainingData:
    """Return the training data with the attributes and functions of `replacements`.

    Args:
        data: The original training data.
        **replacements: Value or function by name, e.g. `train=examples`.
    """
    return cast(TrainingData, _Override(data, **replacements))
