"""Upgrade of schema-1 records, which differ from schema 2 in their field names only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# Paths of renamed fields in schema 1, each with the last part of its path in schema 2. `*` stands for every key. They
# are applied in this order, so the path of a field uses the old names of its parents.
RENAMED_FIELDS = (
    ("asked", "command"),
    ("spec.exam", "split"),
    ("spec.method.sham", "negative_control"),
    ("spec.budget.passes", "epochs"),
    ("cost.memory_read_by", "memory_source"),
    ("cost.artefact_bytes", "artifact_bytes"),
    ("cost.phases.remember", "general_text_before"),
    ("cost.phases.forget", "general_text_after"),
    ("cost.phases.serve", "adapter_serving"),
    ("cost.phases.*.forecast_mib", "estimated_mib"),
    ("cost.phases.*.predicted_mib", "estimated_mib"),
    ("cost.parameters.kept", "saved"),
    ("cost.spent.available", "train_size"),
    ("cost.spent.passes", "epochs"),
    ("cost.spent", "budget_usage"),
    ("cost.answering.cut_prompts", "truncated_prompts"),
    ("cost.answering.longest_prompt", "longest_prompt_tokens"),
    ("cost.answering.shared_prompt", "shared_prefix_tokens"),
    ("cost.adapter.loaded_same", "reload_agreement"),
    ("cost.adapter.merged_same", "merge_agreement"),
    ("cost.adapter", "adapter_serving"),
    ("cost.adapter_failure", "adapter_serving_error"),
    ("env.others_cores", "background_cores"),
    ("tuning.ranges.*.whole", "integer"),
    ("tuning.attempts", "trials"),
)
RENAMED_VALUES = {"cost.budget_usage.stopped_by": {"passes": "epochs"}}
ROOT_NAMES = ("asked",)
"""Keys of a record that exist in schema 1 only."""
_SCHEMA_1_START = re.compile(rb'\s*\{\s*"schema"\s*:\s*1\s*[,}]')


def starts_like_schema_1(content: bytes) -> bool:
    """Tell without parsing if a JSON text begins like a schema-1 record."""
    return _SCHEMA_1_START.match(content) is not None


def upgrade_json(content: bytes) -> str | None:
    """Return a schema-1 record as JSON text of schema 2; None if it is of another schema."""
    try:
        record = json.loads(content)
        if not isinstance(record, dict) or record.get("schema") != 1:
            return None
        return json.dumps(upgrade_record(record))
    except (ValueError, RecursionError):  # Invalid, or nested too deeply.
        return None


def upgrade_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of schema 1, as parsed from JSON, with the names of schema 2.

    The run id stays the same, so record files, saved artifacts and finished runs are found as before. If a part has a
    field under both its old and its new name, both stay, so that validation rejects the old one.
    """
    upgraded: dict[str, Any] = _copy_dicts(record)
    for path, new_name in RENAMED_FIELDS:
        *parent_path, old_name = path.split(".")
        for parent in _find_dicts(upgraded, parent_path):
            if old_name in parent and new_name not in parent:
                _rename_key(parent, old_name, new_name)
    for path, new_values in RENAMED_VALUES.items():
        *parent_path, field = path.split(".")
        for parent in _find_dicts(upgraded, parent_path):
            value = parent.get(field)
            if isinstance(value, str):
                parent[field] = new_values.get(value, value)
    upgraded["schema"] = 2
    return upgraded


def use_schema_1_names(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the settings `identity` with the names that they have in schema 1.

    `Spec.key` makes its digest from the old names, so the run ids of earlier records stay valid.
    """
    budget = dict(identity["budget"])
    budget["passes"] = budget.pop("epochs")
    renamed = identity | {"budget": budget, "exam": identity["split"]}
    del renamed["split"]
    return renamed


def _rename_key(parent: dict[str, Any], old_name: str, new_name: str) -> None:
    """Rename a key in place and keep its position: the order of phases has a meaning."""
    items = [(new_name if key == old_name else key, value) for key, value in parent.items()]
    parent.clear()
    parent.update(items)


def _copy_dicts(value: Any) -> Any:
    """Copy nested dictionaries; lists are shared, because no renamed field lies inside one."""
    return {key: _copy_dicts(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _find_dicts(node: Any, path: list[str]) -> list[dict[str, Any]]:
    """Return the dictionaries at a path; parts that are missing or null are skipped."""
    if not isinstance(node, dict):
        return []
    if not path:
        return [node]
    name, *rest = path
    keys = list(node) if name == "*" else [name]
    return [parent for key in keys if key in node for parent in _find_dicts(node[key], rest)]
