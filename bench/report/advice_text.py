"""Advice in words: recommendation, evidence, reason, cost, and open questions."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench import units
from bench.analysis.advice import Advice, BreakEven, Candidate, LabelingAdvice
from bench.analysis.constraints import Constraints, upper_limits
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, format_duration, untranslated
from bench.report import shift_table
from bench.report.diagnosis_text import finding_sentence
from bench.report.loss_change import describe_loss_change, measured_texts

SAME_SCORE = 0.0005
"""Difference below which two scores are equal with the decimals that are printed."""


def advice_sentences(
    advice: Advice, task_results: TaskResults, constraints: Constraints, translate: Translate = untranslated
) -> list[str]:
    """Return the advice as sentences, the recommendation first.

    Args:
        advice: Advice for the task.
        task_results: The results that the advice is about.
        constraints: Limits, number of queries and tolerance that the advice was given for.
        translate: Translates a sentence and fills in its values.
    """
    if advice.recommended:
        sentences = _recommendation(advice, constraints, translate)
    elif advice.answer == "not useful":
        sentences = _not_useful(advice, translate)
    else:
        sentences = _closest_to_limits(advice, task_results, constraints, translate)
    if advice.is_preliminary:
        sentences[0] = _preliminary(advice, sentences[0], translate)
    if advice.break_even:
        sentences.append(_break_even(advice.break_even, advice.metric, translate))
        sentences += _price_at_break_even(advice, constraints, translate)
    if not advice.one_machine:
        sentences.append(
            translate(
                "The runs were made on different machines, so costs are not compared; the method with the highest "
                "score is named."
            )
        )
    sentences += _alternatives(advice, task_results, translate)
    candidates = {candidate.name for candidate in advice.candidates}
    sentences += shift_table.describe_new_leader(task_results, candidates, translate)
    if advice.recommended:
        sentences += _loss_change(advice.recommended, task_results, translate)
        sentences += _questions_needed(advice, translate)
        sentences.append(_labeling(advice.more_labels, translate))
    return sentences


def _preliminary(advice: Advice, sentence: str, translate: Translate) -> str:
    """Say that an answer is preliminary, and why."""
    if advice.one_seed and advice.is_smoke_test:
        return translate("Preliminary (one seed, short budget): {sentence}", sentence=sentence)
    if advice.is_smoke_test:
        return translate("Preliminary (short budget): {sentence}", sentence=sentence)
    return translate("Preliminary (one seed): {sentence}", sentence=sentence)


def _alternatives(advice: Advice, task_results: TaskResults, translate: Translate) -> list[str]:
    """Name the best control and the best method without the limits, unless recommended."""
    sentences = []
    controls = [candidate for candidate in advice.candidates if candidate.control]
    if controls and controls[0].name != advice.recommended:
        sentences.append(
            translate(
                "Best control: {name} with {score}, {total} in total.",
                name=controls[0].name,
                score=units.format_score(controls[0].score, advice.metric),
                total=format_duration(controls[0].total_s, translate),
            )
        )
    if advice.best:
        best = next(
            result
            for result in task_results.comparison.results
            if result.name not in advice.excluded or result.name in advice.excluded_by_limit
        )
        if best.name in advice.excluded_by_limit:
            sentences.append(
                translate(
                    "Without the limits: {name} with {score}.",
                    name=best.name,
                    score=units.format_score(best.interval.mean, advice.metric),
                )
            )
    return sentences


def _loss_change(name: str, task_results: TaskResults, translate: Translate) -> list[str]:
    """Tell the change of the recommended method on general text, if measured."""
    texts = {text.sha256: text.name for text in measured_texts(task_results.summaries, translate)}
    return [
        describe_loss_change(name, row.forgetting_nats, texts[row.general_text_sha256], translate)
        for row in task_results.summaries
        if row.label == name and row.general_text_sha256 in texts and row.forgetting_nats is not None
    ]


def candidates_table(title: str, advice: Advice, translate: Translate = untranslated) -> Table:
    """Return a table of the methods within the limits, best first, recommended one in bold."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(translate("method"), overflow="fold")
    heads = (
        units.metric_head(advice.metric),
        translate("95 %\ninterval"),
        translate("vs best"),
        translate("training time").replace(" ", "\n"),
        translate("time per query").replace(" ", "\n", 1),
        translate("total"),
    )
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    standings = {
        "as good": translate("as good"),
        "inconclusive": translate("inconclusive"),
        "worse": translate("worse"),
    }
    for candidate in advice.candidates:
        table.add_row(
            f"{candidate.name} °" if candidate.control else candidate.name,
            units.format_metric(advice.metric, candidate.score),
            units.format_metric_interval(advice.metric, candidate.low, candidate.high),
            standings[candidate.standing],
            format_duration(candidate.train_s, translate),
            format_duration(_seconds_per_query(candidate), translate),
            format_duration(candidate.total_s, translate),
            style="bold" if candidate.name == advice.recommended else None,
        )
    return table


def excluded_sentences(advice: Advice, translate: Translate = untranslated) -> list[str]:
    """Return a sentence for each excluded method with the reason."""
    return [
        translate("Excluded: {name} ({reason})", name=name, reason=reason) for name, reason in advice.excluded.items()
    ]


def _recommendation(advice: Advice, constraints: Constraints, translate: Translate) -> list[str]:
    """Name the method, its score with its interval, the reason for it, and its cost."""
    recommended = next(candidate for candidate in advice.candidates if candidate.name == advice.recommended)
    name, points = recommended.name, 100 * constraints.tolerance
    decision = _decision(advice, points, translate)
    sentences = [
        decision,
        translate(
            "{name} scores {score} {metric} (95 % interval {low} to {high}).",
            name=name,
            score=units.format_score(recommended.score, advice.metric),
            metric=advice.metric,
            low=units.format_score(recommended.low, advice.metric),
            high=units.format_score(recommended.high, advice.metric),
        ),
    ]
    sentences += [finding_sentence(finding, translate) for finding in advice.findings]
    sentences += _reasons(recommended, advice, points, translate)
    return [
        *sentences,
        _cost(recommended, constraints.queries, translate),
        *_price(recommended, constraints, translate),
    ]


def _decision(advice: Advice, points: float, translate: Translate) -> str:
    """Say what to use, or why that is inconclusive."""
    facts: dict[str, object] = {
        "name": advice.recommended,
        "best": advice.best,
        "others": ", ".join(advice.rivals),
        "points": points,
    }
    match advice.doubt:
        case None:
            return translate("Use {name}.", **facts)
        case "only controls" if advice.has_contender:
            return translate("Inconclusive: all methods but controls failed. Of the controls, {name} is best.", **facts)
        case "only controls":
            return translate(
                "Inconclusive: only controls were run, of which {name} is best. Add methods, e.g. --methods "
                "few-shot,lora.",
                **facts,
            )
        case "not better than control":
            return translate(
                "Inconclusive: no method is shown to be better than the control {others}. {name} is the best guess for "
                "now.",
                **facts,
            )
        case "cheaper method":
            return translate(
                "Inconclusive between {name} and {others}: {others} would cost less, but a score more than {points:g} "
                "points lower is not ruled out. {name} is the safer choice for now.",
                **facts,
            )
        case "better method":
            return translate(
                "Inconclusive between the control {name} and {others}: no method is shown to be better, but more than "
                "{points:g} points are not ruled out. {name} costs less for now.",
                **facts,
            )
        case "still learning":
            return translate(
                "Inconclusive: the control {name} is as good for now, but {others} would learn more from longer "
                "training (e.g. --budget standard,epochs=6).",
                **facts,
            )


def _not_useful(advice: Advice, translate: Translate) -> list[str]:
    """Say that no method is useful, and the likeliest reasons."""
    best = next(candidate for candidate in advice.candidates if candidate.name == advice.best)
    sentences = [
        translate(
            "Nothing works yet: the highest score is {score} {metric}, of {name}; below {useful} no method is "
            "recommended.",
            score=units.format_score(best.score, advice.metric),
            metric=advice.metric,
            name=best.name,
            useful=units.format_share(advice.useful_score, advice.metric),
        )
    ]
    if advice.findings:
        sentences.append(translate("The likeliest reasons:"))
        sentences += [finding_sentence(finding, translate) for finding in advice.findings]
    else:
        sentences.append(
            translate("The records show no reason. Look at the wrong answers in bench report, and try a larger model.")
        )
    sentences.append(
        translate("If a lower score is of use to you: bench advise --min-score {metric}=0.3.", metric=advice.metric)
    )
    return sentences


def _reasons(recommended: Candidate, advice: Advice, points: float, translate: Translate) -> list[str]:
    """Say why a method below the best, or a control, is recommended."""
    name = recommended.name
    sentences = []
    if advice.best != name and recommended.deficit < SAME_SCORE:
        sentences.append(
            translate(
                "{best} scores as high but costs more; {name} is at most {points:g} points worse (one-sided test at "
                "the 5 % level).",
                best=advice.best,
                name=name,
                points=points,
            )
        )
    elif advice.best != name:
        sentences.append(
            translate(
                "{best} scores {behind:.1f} points higher, but {name} is at most {points:g} points worse (one-sided "
                "test at the 5 % level).",
                best=advice.best,
                behind=100 * recommended.deficit,
                name=name,
                points=points,
            )
        )
    if recommended.control and advice.answer == "recommend":
        sentences.append(
            translate(
                "{name} is a control: no method within the limits scores more than {points:g} points higher.",
                name=name,
                points=points,
            )
        )
    return sentences


def _cost(recommended: Candidate, queries: int, translate: Translate) -> str:
    """Say what training and answering take."""
    if recommended.total_s is None:
        return translate("The cost was not measured.")
    return translate(
        "{queries:,} queries take {total}: {once} of training and {each} per query.",
        queries=queries,
        total=format_duration(recommended.total_s, translate),
        once=format_duration(recommended.train_s, translate),
        each=format_duration(_seconds_per_query(recommended), translate),
    )


def _price(recommended: Candidate, constraints: Constraints, translate: Translate) -> list[str]:
    """Say what training and answering cost in money, if a price is given."""
    price = constraints.price
    if price is None or recommended.total_s is None or recommended.train_s is None:
        return []
    return [
        translate(
            "At {hour} per hour that is {total}: {once} for training and {answers} for {queries:,} queries.",
            hour=price.format(price.amount),
            total=price.format(price.of_seconds(recommended.total_s)),
            once=price.format(price.of_seconds(recommended.train_s)),
            answers=price.format(price.of_seconds(recommended.total_s - recommended.train_s)),
            queries=constraints.queries,
        )
    ]


def _price_at_break_even(advice: Advice, constraints: Constraints, translate: Translate) -> list[str]:
    """Say how much money both methods have cost at their break-even."""
    price, break_even = constraints.price, advice.break_even
    later = next((item for item in advice.candidates if break_even and item.name == break_even.cheaper_from), None)
    seconds = _seconds_per_query(later) if later else None
    if (
        price is None
        or not break_even
        or not break_even.queries
        or not later
        or later.train_s is None
        or seconds is None
    ):
        return []
    amount = price.of_seconds(later.train_s + break_even.queries * seconds)
    return [translate("By then each of the two has cost {amount}.", amount=price.format(amount))]


def _seconds_per_query(candidate: Candidate) -> float | None:
    return None if candidate.query_ms is None else candidate.query_ms / 1000


def _break_even(break_even: BreakEven, metric: str, translate: Translate) -> str:
    facts: dict[str, object] = {
        "later": break_even.cheaper_from,
        "later_score": units.format_score(break_even.cheaper_from_score, metric),
        "first": break_even.cheaper_below,
        "first_score": units.format_score(break_even.cheaper_below_score, metric),
    }
    if break_even.queries:
        return translate(
            "{later} ({later_score}) is cheaper than {first} ({first_score}) from {at:,} queries on.",
            at=break_even.queries,
            **facts,
        )
    return translate(
        "{later} ({later_score}) is cheaper than {first} ({first_score}) from the first query on.", **facts
    )


def _questions_needed(advice: Advice, translate: Translate) -> list[str]:
    """Say what would settle an inconclusive answer."""
    candidates = {candidate.name: candidate for candidate in advice.candidates}
    if advice.doubt == "cheaper method":
        needed = {name: candidates[name].questions_needed for name in advice.rivals}
    elif advice.doubt == "better method":
        needed = {name: candidates[name].questions_to_beat_control for name in advice.rivals}
    elif advice.doubt == "not better than control" and advice.recommended:
        needed = {advice.recommended: candidates[advice.recommended].questions_to_beat_control}
    else:
        return []
    sentences = []
    for name, questions in needed.items():
        if questions:
            sentences.append(
                translate(
                    "About {items:,} test questions would be needed to decide on {name}.",
                    name=name,
                    items=units.round_up_to_two_digits(questions),
                )
            )
        else:
            sentences.append(translate("More test questions would not decide on {name}; more seeds might.", name=name))
    return sentences


def _closest_to_limits(
    advice: Advice, task_results: TaskResults, constraints: Constraints, translate: Translate
) -> list[str]:
    """Say that no method is within the limits, and how close the best one is to each."""
    if not advice.excluded_by_limit:
        return [translate("All methods failed.")]
    sentences = [translate("No method is within the limits.")]
    rows = [row for row in task_results.summaries if row.status == "ok"]
    for limit in upper_limits(constraints, translate):
        amounts = [(amount, row.label) for row in rows if (amount := limit.measure(row)) is not None]
        if limit.value is not None and amounts:
            amount, name = min(amounts)
            sentences.append(
                translate("{what}: minimum {least} ({name})", what=limit.label, least=limit.format(amount), name=name)
            )
    for metric in constraints.min_scores:
        scores = [(row.scores[metric], row.label) for row in rows if metric in row.scores]
        if scores:
            score, name = max(scores)
            text = units.format_score(score, metric)
            sentences.append(translate("{metric}: maximum {score} ({name})", metric=metric, score=text, name=name))
    return sentences


def _labeling(labeling: LabelingAdvice | None, translate: Translate) -> str:
    """Say if more training examples would help: the gain per doubling and its interval."""
    if labeling is None:
        return translate(
            "Not measured: whether more training examples would help. To find out, add --train-sizes 250,500,1000."
        )
    facts: dict[str, object] = {
        "less": labeling.smaller_size,
        "more": labeling.larger_size,
        "mean": 100 * labeling.gain,
        "low": 100 * labeling.low,
        "high": 100 * labeling.high,
    }
    if labeling.verdict == "yes":
        return translate(
            "More training examples would help: each doubling from {less:,} to {more:,} examples added {mean:.1f} "
            "points ({low:.1f} to {high:.1f}).",
            **facts,
        )
    if labeling.verdict == "no":
        return translate(
            "More training examples would hardly help: each doubling from {less:,} to {more:,} examples added "
            "{mean:.1f} points ({low:.1f} to {high:.1f}).",
            **facts,
        )
    return translate(
        "Inconclusive whether more training examples would help: each doubling from {less:,} to {more:,} examples "
        "added {mean:.1f} points ({low:.1f} to {high:.1f}).",
        **facts,
    )
