"""Records as rows with dotted column names, for tables and experiment trackers."""

from __future__ import annotations

import json
from typing import Any

from bench.records.record import Record


def flatten_record(record: Record) -> dict[str, Any]:
    """Return the values of a record by dotted name (`spec.task.name`); lists are JSON texts.

    The command, samples, values of samples, labels, training curve and single latencies are left out. The
    hyper-parameters and the stop texts are JSON in one column each, and so are the tuning and what the method reports
    about its fit.
    """
    left_out = dict.fromkeys(("samples", "curve", "command", "corpus_values", "labels"), True)
    tree = record.model_dump(mode="json", exclude={**left_out, "shifted": {"samples", "corpus_values"}})
    if record.cost and record.cost.answering:
        del tree["cost"]["answering"]["latency_ms"]
    if record.cost and record.cost.adapter_serving:
        del tree["cost"]["adapter_serving"]["merged_latency_ms"]
    tree["spec"]["method"]["params"] = json.dumps(record.spec.method.params)
    tree["spec"]["decoding"]["stop"] = json.dumps(record.spec.decoding.stop)
    tree["fit_report"] = json.dumps(record.fit_report) if record.fit_report is not None else None
    tree["tuning"] = record.tuning.model_dump_json() if record.tuning else None
    row: dict[str, Any] = {}
    _add_values(row, tree, "")
    return row


def _add_values(row: dict[str, Any], tree: dict[str, Any], prefix: str) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            _add_values(row, value, f"{prefix}{name}.")
        else:
            row[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list) else value
