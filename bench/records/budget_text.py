"""Named budgets, and a budget as the text of `--budget`."""

from __future__ import annotations

from bench.records.spec import BudgetLimits

PRESETS = {
    "ci": BudgetLimits(examples=128, epochs=1),
    "quick": BudgetLimits(examples=200, epochs=1),
    "standard": BudgetLimits(epochs=3),
    "tuned": BudgetLimits(epochs=3, trials=8),
}
_PREFERRED_PRESETS = ("standard", "quick", "ci", "tuned")
"""Of presets with equally many changes the first one names a budget."""


def format_budget(limits: BudgetLimits) -> str:
    """Return a budget as the closest preset and the changes to it, e.g. `standard,epochs=5`."""
    values = limits.model_dump()
    texts: list[list[str]] = []
    for name in _PREFERRED_PRESETS:
        preset_values = PRESETS[name].model_dump()
        changes = [
            f"{key}={'none' if value is None else f'{value:g}' if isinstance(value, float) else value}"
            for key, value in values.items()
            if value != preset_values[key]
        ]
        texts.append([name, *changes])
    shortest = min(texts, key=len)
    return ",".join(shortest)
