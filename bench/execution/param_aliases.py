"""Names that other libraries give to hyper-parameters and to limits of the budget."""

from __future__ import annotations

from collections.abc import Container

from bench.errors import UserError

ALIASES = {
    "r": "rank",
    "lora_r": "rank",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "learning_rate": "lr",
}
"""Names of PEFT and transformers, and those of the methods here."""
BUDGET_LIMITS = {
    "epochs": "epochs",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "max_steps": "steps",
    "steps": "steps",
    "batch_size": "batch",
    "per_device_train_batch_size": "batch",
    "train_batch_size": "batch",
    "max_new_tokens": "new_tokens",
}
"""Names of settings that belong to the budget, and its limits, which all methods share."""


def resolve_alias(method: str, key: str, value: str, params: Container[str]) -> str:
    """Return the name of a hyper-parameter that `--set` names in the words of another library.

    Args:
        method: Name of the method, for messages.
        key: The name as typed.
        value: The value as typed, for messages.
        params: Names of the hyper-parameters of the method; they come before any alias.

    Raises:
        UserError: The name belongs to the budget.
    """
    if key in params:
        return key
    if key in BUDGET_LIMITS:
        limit = BUDGET_LIMITS[key]
        raise UserError(
            f"--set {method}.{key}={value}: {key} belongs to the budget, which all methods share",
            hint=f"--budget standard,{limit}={value}",
        )
    alias = ALIASES.get(key)
    return alias if alias is not None and alias in params else key
