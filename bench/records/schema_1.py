"""Records of schema 1, written before 1.0: the same content under older field names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Fields of schema 1 by their path and their name in schema 2. A `*` matches every key or list element.
RENAMED_FIELDS = (
    ("asked", "command"),
    ("spec.exam", "split"),
    ("spec.method.sham", "negative_control"),
    ("spec.budget.passes", "epochs"),
    ("cost.memory_read_by", "memory_source"),
    ("cost.artifact_bytes", "artifact_bytes"),
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
RENAMED_VALUES = {("cost", "budget_usage", "stopped_by"): {"passes": "epochs"}}


def upgrade_json(content: bytes) -> str | None:
    """Return the JSON text of a schema-1 record with the field names of schema 2; None if it is no such record."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict) or parsed.get("schema") != 1:
        return None
    return json.dumps(upgrade_record(parsed))


def upgrade_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of schema 1, as parsed from JSON, with the field names of schema 2.

    The run's id does not change, so files, kept artifacts and finished runs are found as before.
    """
    upgraded: dict[str, Any] = _deep_copy(record)
    for path, name in RENAMED_FIELDS:
        *parents, old_name = path.split(".")
        for parent in _find(upgraded, parents):
            if old_name in parent:
                parent[name] = parent.pop(old_name)
    for (*parents_path, field), values in RENAMED_VALUES.items():
        for parent in _find(upgraded, parents_path):
            if parent.get(field) in values:
                parent[field] = values[parent[field]]
    upgraded["schema"] = 2
    return upgraded


def _deep_copy(value: Any) -> Any:
    """Copy the dictionaries of a JSON document; everything else is never changed."""
    return {key: _deep_copy(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _find(node: Any, path: list[str]) -> list[dict[str, Any]]:
    """Return the dictionaries at a path; `*` stands for every key. A missing or null one is left out."""
    if not isinstance(node, dict):
        return []
    if not path:
        return [node]
    children = node.values() if path[0] == "*" else [node[path[0]]] if path[0] in node else []
    return [found for child in children for found in _find(child, path[1:])]
