"""What a run is given of a cluster's node: said behind the cluster's address, or all of its cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bench.errors import UserError, did_you_mean
from bench.units import parse_bytes

KEYS = ("cpus", "gpus", "memory", "ship")
VALID = "ray, ray://auto, ray://HOST:10001, ray://HOST:10001?cpus=8&gpus=1&memory=16GiB"
NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}  # of an option of a task, and of a node's resource

Node = dict[str, Any]
"""As `ray.nodes()` tells of one."""


@dataclass(frozen=True)
class RayResources:
    """What `--executor` says: which cluster, and what of a node a run is given; None: decided by the nodes."""

    on: str
    address: str
    cpus: int | None = None
    gpus: int | None = None
    memory: int | None = None
    ship: str | None = None
    """A folder that Ray brings to every node, where runs then stand in it."""


def parse_resources(on: str) -> RayResources:
    """Read `ray`, `ray://auto` or `ray://HOST:PORT`, with what a run is given behind a question mark."""
    address, _, query = on.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := given.keys() - set(KEYS):
        raise UserError(f"--executor {on}: no such thing to say of a run", hint=did_you_mean(min(unknown), KEYS))
    parts = urlsplit(address)
    try:
        if address not in ("ray", "ray://auto") and not (parts.scheme == "ray" and parts.hostname and parts.port):
            raise ValueError("no address of a cluster")
        cpus, gpus = (int(given[key]) if key in given else None for key in ("cpus", "gpus"))
        memory = parse_bytes(given["memory"]) if "memory" in given else None
        if (cpus is not None and cpus < 1) or (gpus is not None and gpus < 0):
            raise ValueError("a run takes a core at least, and GPUs or none")
    except ValueError as error:
        raise UserError(f"--executor {on}: {error}", hint=f"Valid: {VALID}") from None
    if "ship" in given and not Path(given["ship"]).is_dir():
        raise UserError(f"--executor {on}: no folder to ship", location=str(Path(given["ship"]).absolute()))
    return RayResources(on, address, cpus, gpus, memory, given.get("ship"))


def resources_per_run(asked: RayResources, nodes: Sequence[Node], device: str) -> tuple[list[Node], dict[str, int]]:
    """The nodes that can make runs, and what each run is given of one, as options of a task.

    All cores of a node, if not said otherwise: then no run disturbs what is measured of another. Raises `UserError`
    where no node has what is asked, or where all cores of one would be half of another's.
    """
    nodes = [node for node in nodes if node["Alive"] and _has(node, "num_cpus")]
    gpus = asked.gpus
    if gpus is None:  # as on one machine: a GPU if there is one
        gpus = int(device == "cuda" or (device == "auto" and any(_has(node, "num_gpus") for node in nodes)))
    share = {"num_cpus": asked.cpus or 1, "num_gpus": gpus, "memory": asked.memory or 0}
    able = [node for node in nodes if _room(node, share)]
    there = "; ".join(_listed({option: _has(node, option) for option in NAMES}) for node in nodes) or "none"
    if not able:
        raise UserError(f"--executor {asked.on}: no node has {_listed(share)} for a run", location=f"nodes: {there}")
    if asked.cpus is None:
        share["num_cpus"] = min(_has(node, "num_cpus") for node in able)
        most = max(_has(node, "num_cpus") for node in able)
        if most >= 2 * share["num_cpus"]:
            raise UserError(
                f"--executor {asked.on}: the nodes are too unlike for one run on each",
                location=f"nodes: {there}",
                hint=f"say what a run takes: cpus={most} leaves smaller nodes out, fewer share larger ones",
            )
    return able, {option: amount for option, amount in share.items() if amount or option == "num_gpus"}


def describe_share(nodes: Sequence[Node], share: dict[str, int]) -> str:
    """How many runs there are at once, and on what."""
    rooms = sum(_room(node, share) for node in nodes)
    return f"Ray: nodes: {len(nodes)}, runs at once: {rooms}, each with {_listed(share)}"


def _has(node: Node, option: str) -> int:
    return int(node["Resources"].get(NAMES[option], 0))


def _room(node: Node, share: dict[str, int]) -> int:
    """How many runs a node has room for."""
    return min(_has(node, option) // amount for option, amount in share.items() if amount)


def _listed(amounts: dict[str, int]) -> str:
    memory = amounts.get("memory", 0)
    words = [f"{amounts['num_cpus']} CPU", *([f"{amounts['num_gpus']} GPU"] if amounts["num_gpus"] else [])]
    return ", ".join([*words, *([f"{memory / 2**30:.1f} GiB"] if memory else [])])
