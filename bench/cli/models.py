"""The command `bench models`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from bench.cli.options import Format, FormatOption
from bench.cli.terminal import print_json
from bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from bench.execution.feasibility import Feasibility, MemoryNeed, ModelFacts

CHECKPOINTED = "checkpointing"


def command(
    model: Annotated[
        str | None, typer.Argument(help="Shipped model, folder or hub name; without it, list the models.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Data type of the weights: float32, bfloat16, float16 or auto.")
    ] = "float32",
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of the longest example, answer included.")] = 256,
    device: Annotated[str, typer.Option(help="Device of the runs: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    budget: Annotated[str, typer.Option(help="Budget of the runs, e.g. standard,memory=8GiB.")] = "standard",
    format: FormatOption = Format.table,
) -> None:
    """Show a model's properties and estimate whether each method fits in memory.

    The weights are not loaded; the estimate takes a few seconds.

    Exit code: 0 done; 2 invalid input, or a model that bench run would refuse.
    """
    if model is None:
        _list_models(format)
        return
    from bench import registry
    from bench.execution.budget import parse_budget
    from bench.measurement.device import AUTO_DTYPE, check_device, fast_dtype
    from bench.modeling import checkpoint
    from bench.records import Dtype

    valid = [AUTO_DTYPE, *get_args(Dtype)]
    if dtype not in valid:
        raise UserError(f"--dtype {dtype}: unknown data type", hint=did_you_mean(dtype, valid))
    # These fail before imports that take seconds.
    check_device(device)
    if dtype == AUTO_DTYPE:
        dtype = fast_dtype(device)
    limits = parse_budget(budget)
    checkpoint.check_model_folder(registry.find_model(model))
    from bench.execution.feasibility import survey_model

    feasibility = survey_model(model, dtype, tokens, device, limits)
    if format is Format.json:
        needs = [vars(need) for need in feasibility.memory_needs]
        document = {"facts": vars(feasibility.facts), "machine": vars(feasibility.machine), "needs": needs}
        print_json(document)
    else:
        _print_feasibility(feasibility, budget)


def _list_models(format: Format) -> None:
    from bench import hub, registry

    shipped, cached = registry.list_entries("models"), hub.cached_models()
    if format is Format.json:
        print_json({"models": [vars(entry) for entry in shipped.values()], "cached": cached})
        return
    for entry in shipped.values():
        print(f"{entry.name}  {entry.summary}")
    for name in cached:
        print(f"{name}  (in the hub cache)")
    print("A folder or a hub name works too. bench models MODEL shows properties and memory estimates.")


def _print_feasibility(feasibility: Feasibility, budget: str) -> None:
    from rich.table import Table

    from bench.cli.console import PlainConsole
    from bench.execution.feasibility import suggested_limit

    console = PlainConsole()
    properties = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _model_properties(feasibility.facts).items():
        properties.add_row(name, value)
    console.print(properties, "")
    estimates = Table("method", box=None, padding=(0, 2, 0, 0))
    for title in ("load MiB", "train MiB", "answer MiB", "micro-batch", "fits"):
        estimates.add_column(title, justify="right")
    for need in feasibility.memory_needs:
        sizes = (f"{size:,.0f}" for size in (need.load_mib, need.fit_mib, need.answer_mib))
        estimates.add_row(need.method, *sizes, _describe_micro_batch(need), "yes" if need.fits else "no")
    console.print(estimates)
    machine = feasibility.machine
    console.print(
        f"Estimated peaks for examples of {machine.tokens} tokens in {machine.dtype} on {machine.device}. "
        f"{machine.libraries_mib} MiB of each peak are libraries (a training run loads more of them); "
        f"{machine.free_mib:,} MiB are free. Micro-batch: examples per forward pass in training."
    )
    if any(need.activation_checkpointing for need in feasibility.memory_needs):
        console.print(f"{CHECKPOINTED}: with activation checkpointing, which computes layers twice in training.")
    smaller = [
        f"{need.method}{f' ({CHECKPOINTED})' if need.activation_checkpointing else ''}"
        for need in feasibility.memory_needs
        if need.fits_in_smaller_batches and not need.fits
    ]
    if smaller and sys.platform == "linux":  # where memory can be limited
        limit = suggested_limit(machine.free_mib)
        console.print(f"{', '.join(smaller)}: fit in smaller batches: --budget {budget},memory={limit}MiB")


def _describe_micro_batch(need: MemoryNeed) -> str:
    """Return the micro-batch of a method that fits, or that was estimated."""
    if need.micro_batch is None:
        return "–"
    return (
        f"{need.micro_batch} {CHECKPOINTED}" if need.fits and need.activation_checkpointing else f"{need.micro_batch}"
    )


def _describe_chat(facts: ModelFacts) -> str:
    """Describe instruction, thoughts and end of an answer in the chat template."""
    if facts.chat_template_problem:
        return f"cannot be used: {facts.chat_template_problem}; bench run needs --prompt-format plain"
    if not facts.chat_template:
        return "none, so prompts are plain text"
    parts = ["yes, used by --prompt-format auto"]
    parts.append("instruction as system message" if facts.instruction_role == "system" else "no system role")
    if facts.thinking != "none":
        parts.append(f"thinking {facts.thinking}")
    if not facts.generation_prompt:
        parts.append("no generation prompt, so an answer begins as in a solved conversation")
    parts.append(f"a turn ends with {facts.ends_turn!r}" if facts.ends_turn else "nothing ends a turn")
    return "; ".join(parts)


def _model_properties(facts: ModelFacts) -> dict[str, str]:
    """Describe the facts of `survey_model` by name; empty ones are left out."""
    is_decoder = facts.kind == "decoder"
    grouped = facts.key_value_heads != facts.heads
    heads = f"{facts.heads} heads" if facts.heads else "no attention heads"
    heads += f" ({facts.key_value_heads} key/value heads)" if grouped else ""
    adapter = f" on {facts.adapter_on}, merged at load" if facts.adapter_on else ""
    tied = ", tied to the output layer" if is_decoder and facts.tied_embeddings else ""
    padding = "" if facts.padding_named else " (the model names none; masked by position)"
    properties: dict[str, str | None] = {
        "model": f"{facts.model}{adapter}",
        "revision": facts.revision or "",
        "sha256": facts.sha256[:12],
        "kind": f"{facts.kind}, {facts.architecture}",
        "parameters": f"{facts.parameters:,}",
        "layers": f"{facts.layers} of width {facts.width}, {heads}, {facts.attention} attention",
        "vocabulary": f"{facts.vocabulary:,} tokens{tied}",
        "context": "no limit"
        if facts.context is None
        else f"{facts.context:,} tokens; longer prompts are truncated at the start; few-shot drops examples instead",
        "on disk": f"{facts.bytes / 1e6:,.1f} MB in {facts.files} file(s), {', '.join(facts.stored_in)}",
        "quantized": facts.quantization
        and f"yes ({facts.quantization}); methods that train weights of the base, such as full, are unsupported",
        "chat template": _describe_chat(facts),
        "first token": facts.begins_with or "none",
        "end tokens": ", ".join(facts.ends),
        "padding token": f"{facts.fills_with}{padding}",
    }
    return {name: value for name, value in properties.items() if value}
