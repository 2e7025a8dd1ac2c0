"""Resources of a run on a Ray cluster.

They are set in the address of `--executor`; without that a run gets all cores of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.units import parse_bytes

QUERY_KEYS = ("cpus", "gpus", "memory", "ship")
VALID_ADDRESSES = "ray, ray://auto, ray://HOST:10001, ray://HOST:10001?cpus=8&gpus=1&memory=16GiB"
NODE_RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""Names of a node's resources, by the task option that requests them."""

Node = dict[str, Any]
"""A node as `ray.nodes()` describes it."""


@dataclass(frozen=True)
class RayResources:
    """Cluster and resources per run, as given to `--executor`.

    None leaves a resource to the nodes.
    """

    option: str
    """The value of `--executor`."""
    address: str
    cpus: int | None = None
    gpus: int | None = None
    memory: int | None = None
    """Bytes."""
    ship: str | None = None
    """Folder that Ray copies to every node as the working folder of the runs."""


def parse_resources(option: str) -> RayResources:
    """Parse the address of a cluster and the resources of a run.

    The address is `ray`, `ray://auto` or `ray://HOST:PORT`; resources follow after a question mark.

    Raises:
        UserError: The address or a resource is invalid, or the folder to ship is missing.
    """
    address, _, query = option.partition("?")
    values = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := values.keys() - set(QUERY_KEYS):
        key = min(unknown)
        raise UserError(
            Message("--executor {option}: unknown key '{key}'", option=option, key=key),
            hint=did_you_mean(key, QUERY_KEYS),
        )
    parts = urlsplit(address)
    try:
        if address not in ("ray", "ray://auto") and not (parts.scheme == "ray" and parts.hostname and parts.port):
            raise ValueError(Message("not the address of a cluster"))
        cpus, gpus = (int(values[key]) if key in values else None for key in ("cpus", "gpus"))
        memory = parse_bytes(values["memory"]) if "memory" in values else None
        if (cpus is not None and cpus < 1) or (gpus is not None and gpus < 0):
            raise ValueError(Message("a run needs at least one CPU, and a number of GPUs that is not negative"))
    except ValueError as error:
        raise UserError(
            Message("--executor {option}: {problem}", option=option, problem=error),
            hint=Message("Valid: {names}", names=VALID_ADDRESSES),
        ) from None
    if "ship" in values and not Path(values["ship"]).is_dir():
        raise UserError(
            Message("--executor {option}: the folder to ship was not found", option=option),
            location=str(Path(values["ship"]).absolute()),
        )
    return RayResources(option, address, cpus, gpus, memory, values.get("ship"))


def resources_per_run(requested: RayResources, nodes: Sequence[Node], device: str) -> tuple[list[Node], dict[str, int]]:
    """Decide which nodes take runs and what each run gets of a node.

    A run gets all cores of a node by default: then no run disturbs the measurements of another.

    Args:
        requested: Resources that the user has set.
        nodes: Nodes of the cluster.
        device: Value of `--device`.

    Returns:
        The nodes that can take a run, and the resources of a run as options of a Ray task.

    Raises:
        UserError: No node has the resources, or one node has at least twice as many cores as another.
    """
    nodes = [node for node in nodes if node["Alive"] and _amount(node, "num_cpus")]
    gpus = requested.gpus
    if gpus is None:  # as on one machine: a GPU if there is one
        gpus = int(device == "cuda" or (device == "auto" and any(_amount(node, "num_gpus") for node in nodes)))
    resources = {"num_cpus": requested.cpus or 1, "num_gpus": gpus, "memory": requested.memory or 0}
    suitable_nodes = [node for node in nodes if _runs_at_once(node, resources)]
    node_texts = [_describe({option: _amount(node, option) for option in NODE_RESOURCES}) for node in nodes]
    location = Message("nodes: {names}", names="; ".join(node_texts) or Message("none"))
    if not suitable_nodes:
        raise UserError(
            Message(
                "--executor {option}: no node has {resources} for a run",
                option=requested.option,
                resources=_describe(resources),
            ),
            location=location,
        )
    if requested.cpus is None:
        core_counts = [_amount(node, "num_cpus") for node in suitable_nodes]
        resources["num_cpus"] = min(core_counts)
        if max(core_counts) >= 2 * min(core_counts):
            raise UserError(
                Message("--executor {option}: the nodes differ too much for one run on each", option=requested.option),
                location=location,
                hint=Message(
                    "set the cores of a run: cpus={cores} excludes smaller nodes, a smaller number shares larger ones",
                    cores=max(core_counts),
                ),
            )
    return suitable_nodes, {option: amount for option, amount in resources.items() if amount or option == "num_gpus"}


def describe_resources(nodes: Sequence[Node], resources: dict[str, int]) -> str:
    """Describe the number of nodes, of runs at once, and the resources of each run."""
    runs = sum(_runs_at_once(node, resources) for node in nodes)
    return Message(
        "Ray: nodes: {nodes}, runs at once: {runs}, each with {resources}",
        nodes=len(nodes),
        runs=runs,
        resources=_describe(resources),
    )


def _amount(node: Node, option: str) -> int:
    return int(node["Resources"].get(NODE_RESOURCES[option], 0))


def _runs_at_once(node: Node, resources: dict[str, int]) -> int:
    return min(_amount(node, option) // amount for option, amount in resources.items() if amount)


def _describe(amounts: dict[str, int]) -> str:
    """Describe amounts by task option: `8 CPU, 1 GPU, 16.0 GiB`."""
    parts = [f"{amounts['num_cpus']} CPU"]
    if amounts["num_gpus"]:
        parts.append(f"{amounts['num_gpus']} GPU")
    if memory := amounts.get("memory", 0):
        parts.append(f"{memory / 2**30:.1f} GiB")
    return ", ".join(parts)
