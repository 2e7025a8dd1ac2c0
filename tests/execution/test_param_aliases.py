"""Names of other libraries in `--set`."""

from __future__ import annotations

import pytest

from bench.errors import UserError
from bench.execution.plan import resolve_alias

PARAMS = ("rank", "alpha", "lr")


@pytest.mark.parametrize(
    ("key", "name"),
    [("r", "rank"), ("lora_r", "rank"), ("lora_alpha", "alpha"), ("learning_rate", "lr"), ("rank", "rank"), ("x", "x")],
)
def test_resolve_alias_gives_the_name_of_the_method(key: str, name: str) -> None:
    assert resolve_alias("lora", key, "8", PARAMS) == name


def test_resolve_alias_own_name_comes_before_an_alias() -> None:
    assert resolve_alias("peft:LORA", "r", "8", ("r", "rank", "epochs")) == "r"
    assert resolve_alias("mine", "epochs", "8", ("r", "epochs")) == "epochs"
    assert resolve_alias("prefix", "r", "8", ("tokens",)) == "r"


@pytest.mark.parametrize(
    ("key", "limit"),
    [("epochs", "epochs"), ("num_train_epochs", "epochs"), ("max_steps", "steps"), ("batch_size", "batch")],
)
def test_resolve_alias_limit_of_the_budget_is_refused_with_the_option(key: str, limit: str) -> None:
    with pytest.raises(UserError, match="belongs to the budget") as refusal:
        resolve_alias("lora", key, "5", PARAMS)
    assert refusal.value.hint == f"--budget standard,{limit}=5"
