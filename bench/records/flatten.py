"""A run as one line of dotted names: for tables, and for trackers."""

from __future__ import annotations

import json
from typing import Any

from bench.records.record import Record


def flatten_record(record: Record) -> dict[str, Any]:
    """Everything of a run but its command, answers, curve and latencies; lists as JSON."""
    whole = record.model_dump(mode="json", exclude={"samples", "curve", "command"})
    if record.cost and record.cost.answering:
        del whole["cost"]["answering"]["latency_ms"]
    if record.cost and record.cost.adapter_serving:
        del whole["cost"]["adapter_serving"]["merged_latency_ms"]
    whole["spec"]["method"]["params"] = json.dumps(record.spec.method.params)
    whole["spec"]["decoding"]["stop"] = json.dumps(record.spec.decoding.stop)
    whole["tuning"] = record.tuning.model_dump_json() if record.tuning else None
    found: dict[str, Any] = {}

    def lay(tree: dict[str, Any], path: str) -> None:
        for name, value in tree.items():
            if isinstance(value, dict):
                lay(value, f"{path}{name}.")
            else:
                found[f"{path}{name}"] = json.dumps(value) if isinstance(value, list) else value

    lay(whole, "")
    return found
