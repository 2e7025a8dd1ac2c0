"""Sentences on a comparison: leader, significant differences, and inconclusive ones."""

from __future__ import annotations

from bench import units
from bench.analysis.comparison import Comparison, Contrast
from bench.analysis.significance import EQUIVALENCE_MARGIN, Interval, Verdict
from bench.i18n import Translate, untranslated

FLOOR_SCORE = 0.05
"""If no method scores higher, differences between methods, or their absence, show nothing about the methods."""


def comparison_sentences(comparison: Comparison, translate: Translate = untranslated) -> list[str]:
    """Describe a comparison: the leader, then the methods against it and the best control.

    Args:
        comparison: The methods of one task on one model.
        translate: Translates a sentence and fills in its values.

    Returns:
        One sentence per statement; empty if no method has a result.
    """
    leader, control = comparison.leader, comparison.control
    if leader is None:
        return []
    if comparison.results[0].interval.mean < FLOOR_SCORE:
        return [
            translate(
                "All methods score below {floor}, so nothing can be said about their order.",
                floor=units.format_share(FLOOR_SCORE, comparison.metric),
            )
        ]
    facts = _interval_texts(leader.interval, comparison.metric) | {
        "name": leader.name,
        "metric": comparison.metric,
        "seeds": len(leader.seeds),
    }
    if len(leader.seeds) > 1:
        first = translate(
            "{name} leads with {mean} {metric}, 95 % interval {low} to {high} ({seeds} seeds).",
            **facts,
        )
    elif leader.known.variance:
        first = translate(
            "{name} leads with {mean} {metric}, 95 % interval {low} to {high} (one seed: the variation "
            "between seeds is assumed, not measured).",
            **facts,
        )
    else:
        first = translate("{name} leads with {mean} {metric}, 95 % interval {low} to {high}.", **facts)
    if control is not None and control.interval.mean > leader.interval.mean:
        higher = {
            "name": control.name,
            "mean": units.format_score(control.interval.mean, comparison.metric),
            "metric": comparison.metric,
        }
        control_first = translate("The control {name} scores highest: {mean} {metric}. Of the other methods:", **higher)
        first = f"{control_first} {first}"
    labels = {result.key: result.name for result in comparison.results}
    sentences = [first, *_verdict_sentences(comparison.against_leader, labels, leader.name, translate)]
    if control is None:
        return sentences
    if comparison.can_rank:
        best_control = translate(
            "The best control is {name} with {mean}.",
            name=control.name,
            mean=units.format_score(control.interval.mean, comparison.metric),
        )
    else:
        best_control = translate(
            "No method is significantly better than {name}: this task cannot rank methods.", name=control.name
        )
    against_control = _verdict_sentences(comparison.against_control, labels, control.name, translate)
    return [*sentences, best_control, *against_control]


def _interval_texts(interval: Interval, metric: str) -> dict[str, object]:
    return {name: units.format_score(value, metric) for name, value in vars(interval).items()}


def _verdict_sentences(
    contrasts: dict[str, Contrast], labels: dict[str, str], reference: str, translate: Translate
) -> list[str]:
    """Return one sentence per verdict, with the methods that have it.

    Args:
        contrasts: Comparisons with the reference method, by the key of the method.
        labels: Label of each method by its key.
        reference: Label of the method that the others are compared with.
        translate: Translates a sentence and fills in its values.
    """
    named: dict[Verdict, list[str]] = {"better": [], "equivalent": [], "worse": [], "inconclusive": []}
    for key, contrast in contrasts.items():
        needed = ""
        if contrast.questions_needed:
            needed = translate(
                " (about {items:,} test questions would be needed)",
                items=units.round_up_to_two_digits(contrast.questions_needed),
            )
        named[contrast.verdict].append(labels[key] + needed)
    sentences = []
    for verdict, names in named.items():
        if not names:
            continue
        facts = {"other": reference, "names": ", ".join(names)}
        if verdict == "better":
            sentences.append(translate("Better than {other}: {names}.", **facts))
        elif verdict == "equivalent":
            points = 100 * EQUIVALENCE_MARGIN
            sentences.append(
                translate("Equivalent to {other} within {points:.0f} points: {names}.", points=points, **facts)
            )
        elif verdict == "worse":
            sentences.append(translate("Worse than {other}: {names}.", **facts))
        else:
            sentences.append(translate("No significant difference from {other}: {names}.", **facts))
    return sentences
