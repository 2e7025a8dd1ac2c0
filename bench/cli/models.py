"""The verb that looks at models: `models`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from bench.cli.options import Format, Formatted
from bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from bench.execution.feasibility import Feasibility


def command(
    model: Annotated[
        str | None, typer.Argument(help="A shipped model, a folder, or a hub name; none lists those at hand.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16: what weights would be held in.")
    ] = "float32",
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of the longest example, answer included.")] = 256,
    format: Formatted = Format.table,
) -> None:
    """Show what the harness would do with a model, and whether it fits this machine, without loading its weights.

    Takes some seconds, since the model is built without weights. Exit code: 0, or 2 for what a run would refuse.
    """
    if model is None:
        _list(format)
        return
    from bench import registry
    from bench.modeling import checkpoint
    from bench.records.record import Dtype

    valid = get_args(Dtype)
    if dtype not in valid:
        raise UserError(f"--dtype {dtype}: there is no such precision", hint=did_you_mean(dtype, valid))
    checkpoint.check_model_folder(registry.find_model(model))  # refuses before anything is imported that takes seconds
    from bench.execution.feasibility import survey_model

    found = survey_model(model, dtype, tokens)
    if format is Format.json:
        needs = [vars(need) for need in found.memory_needs]
        print(json.dumps({"facts": found.facts, "machine": found.machine, "needs": needs}, ensure_ascii=False))
    else:
        _show(found)


def _list(format: Format) -> None:
    from bench import hub, registry

    shipped, cached = registry.list_entries("models"), hub.cached_models()
    if format is Format.json:
        print(json.dumps({"models": [vars(claim) for claim in shipped.values()], "cached": cached}))
        return
    for claim in shipped.values():
        print(f"{claim.name}  {claim.summary}")
    for name in cached:
        print(f"{name}  (in the hub's cache)")
    print("Or a folder, or a hub name: bench models MODEL shows what the harness would do with it.")


def _show(found: Feasibility) -> None:
    from rich.console import Console
    from rich.table import Table

    from bench.execution import budget

    console = Console(markup=False, highlight=False)
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, said in _told(found.facts).items():
        facts.add_row(name, said)
    console.print(facts, "")
    table = Table("method", box=None, padding=(0, 2, 0, 0))
    for title in ("load MiB", "fit MiB", "answer MiB", "at once", "fits"):
        table.add_column(title, justify="right")
    for need in found.memory_needs:
        sizes = (f"{size:,.0f}" for size in (need.load_mib, need.fit_mib, need.answer_mib))
        table.add_row(need.method, *sizes, str(need.micro_batch or "–"), "yes" if need.fits else "no")
    console.print(table)
    machine = found.machine
    console.print(
        f"Peaks as reckoned beforehand, for examples of {machine['tokens']} tokens in {machine['dtype']} on the "
        f"{machine['device']}. {machine['libraries_mib']} MiB are libraries, of which a run that trains loads more; "
        f"{machine['free_mib']:,} MiB are free. At once: examples of a training step that go through it together."
    )
    whole = budget.PRESETS["standard"].batch
    shrunk = [need.method for need in found.memory_needs if need.fits and need.micro_batch and need.micro_batch < whole]
    if shrunk and machine["device"] == "cpu":
        most = int(0.9 * machine["free_mib"])
        console.print(f"{', '.join(shrunk)}: in smaller pieces, with --budget standard,memory={most}MiB")


def _told(facts: dict[str, Any]) -> dict[str, str]:
    """The facts in words, with what is done about those that are missing."""
    f = facts
    shared = "" if f["key_value_heads"] == f["heads"] else f" ({f['key_value_heads']} of keys and values)"
    where = f" on {f['adapter_on']}, merged at load" if f["adapter_on"] else ""
    fills = f["fills_with"] if f["padding_named"] else f"{f['fills_with']}, as none is named; masked by position"
    writes = f["kind"] == "decoder"
    told = {
        "model": f"{f['model']}{where}",
        "revision": f["revision"] or "",
        "digest": f["sha256"][:12],
        "kind": f"{f['kind']}, {f['architecture']}",
        "parameters": f"{f['parameters']:,}",
        "layers": f"{f['layers']} of width {f['width']}, {f['heads']} heads{shared}, attention by {f['attention']}",
        "vocabulary": f"{f['vocabulary']:,}{', tied to the output layer' if writes and f['tied_embeddings'] else ''}",
        "context": f"{f['context']:,} tokens; a longer prompt loses its head, and few-shot drops whole shots",
        "on disk": f"{f['bytes'] / 1e6:,.1f} MB in {f['files']} file(s), {', '.join(f['stored_in'])}",
        "chat template": "yes" if f["chat_template"] else "none, so instruct is unsupported",
        "begins with": f["begins_with"] or "nothing",
        "ends with": ", ".join(f["ends"]),
        "fills with": str(fills),
    }
    return {name: said for name, said in told.items() if said}
