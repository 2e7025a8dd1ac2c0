"""Findings of a diagnosis in words, each with what to do about it."""

from __future__ import annotations

from bench import units
from bench.analysis.diagnosis import Finding
from bench.i18n import Translate, untranslated

SCORES = ("em", "f1", "score")
SHARES = ("share", "fall")
"""Facts of findings that are scores and shares from 0 to 1."""


def finding_sentence(finding: Finding, translate: Translate = untranslated) -> str:
    """Return the sentence of one finding.

    Args:
        finding: Finding of `bench.analysis.diagnosis`.
        translate: Translates a sentence and fills in its values.
    """
    facts: dict[str, object] = {**finding.facts, "names": ", ".join(finding.methods)}
    facts |= {name: units.format_score(float(finding.facts[name])) for name in SCORES if name in finding.facts}
    facts |= {name: units.format_share(float(finding.facts[name])) for name in SHARES if name in finding.facts}
    match finding.kind:
        case "one seed":
            return translate(
                "One seed: how much scores vary between seeds is not measured here. A standard deviation of "
                "{points:.1f} points is assumed, as in {runs} runs of other tasks. Add --seeds 3.",
                **facts,
            )
        case "short budget":
            return translate(
                "Short budget: one epoch over {examples} examples is a smoke test. Decide with --budget standard.",
                **facts,
            )
        case "demo model":
            if not finding.facts["parameters"]:  # only methods without a model were run
                return translate(
                    "Demonstration model: decide with the model that you would use (--model FOLDER or a hub name)."
                )
            facts["size"] = units.format_count(float(finding.facts["parameters"]))
            return translate(
                "Demonstration model: {model} has {size} parameters. Decide with the model that you would use "
                "(--model FOLDER or a hub name).",
                **facts,
            )
        case "busy machine":
            return translate(
                "Busy machine: other processes used up to {share} of the cores, so times are not reliable.", **facts
            )
        case "answers cut":
            return translate(
                "Answers are cut: {share} of those of {names} reached the token limit. Raise it with "
                "--budget standard,new_tokens=N.",
                **facts,
            )
        case "answers repeat":
            return translate(
                "Answers repeat: {share} of those of {names} repeat a short phrase up to the token limit.", **facts
            )
        case "strict metric":
            return translate(
                "Strict metric: {names} scores {em} em but {f1} f1, so many answers are nearly right. Set "
                "metric: f1 on the task card if such answers count.",
                **facts,
            )
        case "lenient metric":
            return translate(
                "Lenient metric: the same answer to every question ({names}) scores {score} {metric}, so a high "
                "score does not mean that answers are right. Read some in bench report.",
                **facts,
            )
        case "still learning":
            return translate(
                "Budget too short: the validation loss of {names} still fell by {fall} over the second half of "
                "training. Train longer, e.g. --budget standard,epochs=6.",
                **facts,
            )
        case "disputed labels":
            return translate(
                "Labels may be wrong: on {questions} of {total} questions the {methods} best methods agree on another "
                "answer than the reference. Look at them in bench report.",
                **facts,
            )
