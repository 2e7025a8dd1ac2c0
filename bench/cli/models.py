"""The command `bench models`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from bench.cli.options import Format, FormatOption, Language, localize, translator
from bench.cli.terminal import print_json
from bench.errors import UserError, did_you_mean
from bench.i18n import Message, Translate

if TYPE_CHECKING:
    from bench.execution.feasibility import Feasibility, MemoryNeed, ModelFacts


def command(
    model: Annotated[
        str | None, typer.Argument(help="Shipped model, folder or hub name; without it, list the models.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Data type of the weights: float32, bfloat16, float16 or auto.")
    ] = "float32",
    tokens: Annotated[
        int, typer.Option(min=2, metavar="N", help="Tokens of the longest example, answer included.")
    ] = 256,
    device: Annotated[str, typer.Option(help="Device of the runs: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    budget: Annotated[str, typer.Option(help="Budget of the runs, e.g. standard,memory=8GiB.")] = "standard",
    lang: Language = None,
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
        raise UserError(Message("--dtype {dtype}: unknown data type", dtype=dtype), hint=did_you_mean(dtype, valid))
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
        _print_feasibility(feasibility, budget, translator())


def _list_models(format: Format) -> None:
    from bench import hub, registry

    shipped, cached = registry.list_entries("models"), hub.cached_models()
    if format is Format.json:
        print_json({"models": [vars(entry) for entry in shipped.values()], "cached": cached})
        return
    translate = translator()
    for entry in shipped.values():
        print(f"{entry.name}  {localize(entry.summary)}")
    for name in cached:
        print(translate("{name}  (in the hub cache)", name=name))
    print(translate("A folder or a hub name works too. bench models MODEL shows properties and memory estimates."))


def _print_feasibility(feasibility: Feasibility, budget: str, translate: Translate) -> None:
    from rich.table import Table

    from bench.cli.console import PlainConsole
    from bench.execution.feasibility import suggested_limit

    console = PlainConsole()
    properties = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _model_properties(feasibility.facts, translate).items():
        properties.add_row(name, value)
    console.print(properties, "")
    estimates = Table(translate("method"), box=None, padding=(0, 2, 0, 0))
    sizes_heads = (translate("load MiB"), translate("train MiB"), translate("answer MiB"))
    for title in (*sizes_heads, translate("micro-batch"), translate("fits")):
        estimates.add_column(title, justify="right")
    for need in feasibility.memory_needs:
        sizes = (f"{size:,.0f}" for size in (need.load_mib, need.fit_mib, need.answer_mib))
        fits = translate("yes") if need.fits else translate("no")
        estimates.add_row(need.method, *sizes, _describe_micro_batch(need, translate), fits)
    console.print(estimates)
    console.print(
        translate(
            "Estimated peaks for examples of {tokens} tokens in {dtype} on {device}. {libraries_mib} MiB of each peak "
            "are libraries (a training run loads more of them); {free_mib:,} MiB are free. Micro-batch: examples per "
            "forward pass in training.",
            **vars(feasibility.machine),
        )
    )
    if any(need.activation_checkpointing for need in feasibility.memory_needs):
        console.print(
            translate("checkpointing: with activation checkpointing, which computes layers twice in training.")
        )
    smaller = [
        need.method + (f" ({translate('checkpointing')})" if need.activation_checkpointing else "")
        for need in feasibility.memory_needs
        if need.fits_in_smaller_batches and not need.fits
    ]
    if smaller and sys.platform == "linux":  # where memory can be limited
        limit = f"{budget},memory={suggested_limit(feasibility.machine.free_mib)}MiB"
        sentence = translate("{names}: fit in smaller batches: --budget {limit}", names=", ".join(smaller), limit=limit)
        console.print(sentence)


def _describe_micro_batch(need: MemoryNeed, translate: Translate) -> str:
    """Return the micro-batch of a method that fits, or that was estimated."""
    if need.micro_batch is None:
        return "–"
    checkpointing = translate("checkpointing")
    return (
        f"{need.micro_batch} {checkpointing}" if need.fits and need.activation_checkpointing else f"{need.micro_batch}"
    )


def _describe_chat(facts: ModelFacts, translate: Translate) -> str:
    """Describe instruction, thoughts and end of an answer in the chat template."""
    if facts.chat_template_problem:
        problem = facts.chat_template_problem
        return translate("cannot be used: {problem}; bench run needs --prompt-format plain", problem=problem)
    if not facts.chat_template:
        return translate("none, so prompts are plain text")
    parts = [translate("yes, used by --prompt-format auto")]
    if facts.instruction_role == "system":
        parts.append(translate("instruction as system message"))
    else:
        parts.append(translate("no system role"))
    if facts.thinking != "none":
        parts.append(translate("thinking {state}", state=facts.thinking))
    if not facts.generation_prompt:
        parts.append(translate("no generation prompt, so an answer begins as in a solved conversation"))
    if facts.ends_turn:
        parts.append(translate("a turn ends with {token!r}", token=facts.ends_turn))
    else:
        parts.append(translate("nothing ends a turn"))
    return "; ".join(parts)


def _describe_layers(facts: ModelFacts, translate: Translate) -> str:
    heads = translate("{heads} heads", heads=facts.heads) if facts.heads else translate("no attention heads")
    if facts.key_value_heads != facts.heads:
        heads += translate(" ({heads} key/value heads)", heads=facts.key_value_heads)
    return translate(
        "{layers} of width {width}, {heads}, {attention} attention",
        layers=facts.layers,
        width=facts.width,
        heads=heads,
        attention=facts.attention,
    )


def _describe_context(facts: ModelFacts, translate: Translate) -> str:
    if facts.context is None:
        return translate("no limit")
    return translate(
        "{tokens:,} tokens; longer prompts are truncated at the start; few-shot drops examples instead",
        tokens=facts.context,
    )


def _model_properties(facts: ModelFacts, translate: Translate) -> dict[str, str]:
    """Describe the facts of `survey_model` by name; empty ones are left out."""
    adapter = translate(" on {base}, merged at load", base=facts.adapter_on) if facts.adapter_on else ""
    vocabulary = translate("{tokens:,} tokens", tokens=facts.vocabulary)
    if facts.kind == "decoder" and facts.tied_embeddings:
        vocabulary += translate(", tied to the output layer")
    padding = "" if facts.padding_named else translate(" (the model names none; masked by position)")
    size = {"megabytes": facts.bytes / 1e6, "files": facts.files, "formats": ", ".join(facts.stored_in)}
    quantized = facts.quantization and translate(
        "yes ({quantization}); methods that train weights of the base, such as full, are unsupported",
        quantization=facts.quantization,
    )
    properties: dict[str, str | None] = {
        translate("model"): f"{facts.model}{adapter}",
        translate("revision"): facts.revision or "",
        "sha256": facts.sha256[:12],
        translate("kind"): f"{facts.kind}, {facts.architecture}",
        translate("parameters"): f"{facts.parameters:,}",
        translate("layers"): _describe_layers(facts, translate),
        translate("vocabulary"): vocabulary,
        translate("context"): _describe_context(facts, translate),
        translate("on disk"): translate("{megabytes:,.1f} MB in {files} file(s), {formats}", **size),
        translate("quantized"): quantized,
        translate("chat template"): _describe_chat(facts, translate),
        translate("first token"): facts.begins_with or translate("none"),
        translate("end tokens"): ", ".join(facts.ends),
        translate("padding token"): f"{facts.fills_with}{padding}",
    }
    return {name: value for name, value in properties.items() if value}
