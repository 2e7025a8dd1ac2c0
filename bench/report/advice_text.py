"""Advice in words: what to use, how sure that is, what it costs, and what would tell more."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench import units
from bench.analysis.advice import Advice, Candidate, LabelingAdvice
from bench.analysis.constraints import Constraints, describe_constraints
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated


def advice_sentences(
    made: Advice, section: TaskResults, wishes: Constraints, translate: Translate = untranslated
) -> list[str]:
    """The answer first."""
    said = _answered(made, wishes, translate) if made.recommended else _nearest(made, section, wishes, translate)
    if met := made.break_even:
        said.append(
            translate(
                "{later} ({later_score:.3f}) is cheaper than {first} ({first_score:.3f}) from {at:,} questions on.",
                **met.model_dump(),
            )
            if met.at
            else translate(
                "{later} ({later_score:.3f}) is cheaper than {first} ({first_score:.3f}) from the first question on.",
                **met.model_dump(exclude={"at"}),
            )
        )
    if not made.one_machine:
        said.append(
            translate(
                "The runs were made on machines that differ, so what they cost was not compared: the best is named."
            )
        )
    controls = [one for one in made.candidates if one.control]
    if controls and controls[0].name != made.recommended:
        said.append(
            translate("Beside it, the best control: {name} with {score:.3f}, {total} in all.", **_told(controls[0]))
        )
    open_to = [
        cell
        for cell in section.comparison.results
        if cell.name not in made.excluded or cell.name in made.excluded_by_limit
    ]
    if made.best and open_to[0].name in made.excluded_by_limit:
        best = open_to[0]
        said.append(translate("Without the limits: {name} with {score:.3f}.", name=best.name, score=best.interval.mean))
    return [*said, _labels(made.more_labels, translate)] if made.recommended else said


def candidates_table(title: str, made: Advice, translate: Translate = untranslated) -> Table:
    """Every method within the limits, best first."""
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    shown.add_column(translate("method"), overflow="fold")
    for heading in (
        made.metric,
        "95 %",
        translate("against the best"),
        translate("adapt"),
        translate("answer"),
        translate("in all"),
    ):
        shown.add_column(heading, justify="right")
    words = {"as good": translate("as good"), "inconclusive": translate("inconclusive"), "worse": translate("worse")}
    for one in made.candidates:
        each = None if one.each_ms is None else one.each_ms / 1000
        shown.add_row(
            f"{one.name} °" if one.control else one.name,
            f"{one.score:.3f}",
            f"{one.low:.3f}–{one.high:.3f}",
            words[one.standing],
            units.time(one.once_s),
            units.time(each),
            units.time(one.total_s),
            style="bold" if one.name == made.recommended else None,
        )
    return shown


def excluded_sentences(made: Advice, translate: Translate = untranslated) -> list[str]:
    """Why the others are out."""
    return [translate("Out: {name} ({reason})", name=name, reason=reason) for name, reason in made.excluded.items()]


def _answered(made: Advice, wishes: Constraints, translate: Translate) -> list[str]:
    chosen = next(one for one in made.candidates if one.name == made.recommended)
    facts = _told(chosen) | {"metric": made.metric, "queries": wishes.queries, "points": 100 * wishes.tolerance}
    if made.answer == "undecided":
        said = [
            translate(
                "Undecided between {name} and {others}, which would be cheaper and may be worse by more than "
                "{points:g} points. Until more is known, use {name}.",
                others=", ".join(made.cheaper_candidates),
                **facts,
            )
        ]
        some = [one for one in made.candidates if one.name in made.cheaper_candidates]
        said += [
            translate(
                "About {items:,} test questions would tell for {name}.",
                name=one.name,
                items=units.about(one.questions_needed),
            )
            if one.questions_needed
            else translate("For {name}, more test questions would not tell; more seeds might.", name=one.name)
            for one in some
        ]
    else:
        said = [translate("Use {name}.", **facts)]
    said.append(translate("{name} scored {score:.3f} {metric} ({low:.3f} to {high:.3f}).", **facts))
    if made.best != made.recommended:
        facts |= {"best": made.best, "behind": 100 * chosen.behind}
        said.append(
            translate(
                "The best within the limits, {best}, scored {behind:.1f} points more; {name} is shown to be within "
                "{points:g} points of it.",
                **facts,
            )
        )
    said.append(
        translate("{queries:,} questions cost {total}: {once} to adapt, {each} an answer.", **facts)
        if chosen.total_s is not None
        else translate("What it costs was not measured.")
    )
    if chosen.control and not made.has_contender:
        said.append(translate("{name} is a control, and no other method was run.", **facts))
    elif chosen.control:
        said.append(
            translate("{name} is a control: within the limits, no way of adapting the model was worth more.", **facts)
        )
    return said


def _told(one: Candidate) -> dict[str, object]:
    times = {"once": one.once_s, "each": None if one.each_ms is None else one.each_ms / 1000, "total": one.total_s}
    return one.model_dump() | {name: units.time(value) for name, value in times.items()}


def _nearest(made: Advice, section: TaskResults, wishes: Constraints, translate: Translate) -> list[str]:
    """Nothing fits: what each limit would have to be for one method at least."""
    if not made.excluded_by_limit:
        return [translate("No method ended well.")]
    said = [translate("Nothing fits the limits.")]
    okay = [row for row in section.rows if row.status == "ok"]
    for limit in describe_constraints(wishes, translate):
        found = [(amount, row.label) for row in okay if (amount := limit.of(row)) is not None]
        if limit.granted is not None and found:
            amount, name = min(found)
            said.append(
                translate(
                    "{what}: the least was {least}, by {name}.", what=limit.what, least=limit.written(amount), name=name
                )
            )
    for metric in wishes.min_scores:
        if some := [(row.scores[metric], row.label) for row in okay if metric in row.scores]:
            score, name = max(some)
            said.append(
                translate("{metric}: the most was {score:.3f}, by {name}.", metric=metric, score=score, name=name)
            )
    return said


def _labels(known: LabelingAdvice | None, translate: Translate) -> str:
    if known is None:
        return translate(
            "Whether more labels would help was not measured: the same runs with --train-sizes 250,500,1000 would tell."
        )
    facts = {"mean": 100 * known.gain, "low": 100 * known.low, "high": 100 * known.high}
    facts |= {"less": known.less, "more": known.more}
    if known.verdict == "yes":
        return translate(
            "More labels would help: between {less:,} and {more:,} examples each doubling brought {mean:.1f} points "
            "({low:.1f} to {high:.1f}).",
            **facts,
        )
    if known.verdict == "no":
        return translate(
            "More labels would hardly help: between {less:,} and {more:,} examples each doubling brought {mean:.1f} "
            "points ({low:.1f} to {high:.1f}).",
            **facts,
        )
    return translate(
        "Whether more labels would help is open: between {less:,} and {more:,} examples each doubling brought "
        "{mean:.1f} points ({low:.1f} to {high:.1f}).",
        **facts,
    )
