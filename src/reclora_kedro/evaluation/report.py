"""Results in words, on the terminal and as an HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.bootstrap import holm
from reclora_kedro.evaluation.metrics import ACCURACY, AUC, GAUC, row_metrics
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.evaluation.records import Comparison, InputEffect, ModelMetrics, NegativesCheck, Records, SegmentAuc
from reclora_kedro.terminal import Columns, text_table

if TYPE_CHECKING:
    import plotly.graph_objects as go


class ShownSegment(SegmentAuc):
    """A segment of the test rows as the report shows it."""

    aucs: list[float | None]  # of all models, from the best to the worst on all rows
    best: float | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """Tables of the report, by the names of their entries in the catalog."""

    metrics: Sequence[ModelMetrics]
    comparisons: Sequence[Comparison]
    attribution: Sequence[InputEffect]
    segments: Sequence[SegmentAuc]
    ingestion_report: Records  # see `CleaningReport`, as for the next one
    history_report: Records
    negatives_report: Sequence[NegativesCheck]
    training_report: Records  # with columns of each method's own, see `training_log.training_report`


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """How a run that recommends finds items."""

    example: Mapping[str, Any] | None  # a visitor's list, see `delivery`
    methods: Records  # to show, see `ranking_report.methods_shown`
    chosen: str
    labels: Mapping[str, str]  # what each method is in a few words
    reason: str  # why the chosen method was chosen


def not_lower(metrics: Sequence[ModelMetrics], comparisons: Sequence[Comparison]) -> tuple[ModelMetrics, list[str]]:
    """Return the model with the highest AUC, and the names of those that are not significantly lower.

    P-values are corrected for these comparisons, those of the best with others of `metrics` (Holm).

    Examples:
        >>> metrics = [{"model": "lens", "auc": 0.78, "confidence": 0.95}, {"model": "trees", "auc": 0.77}]
        >>> other_pair = {"model_a": "trees", "model_b": "knn", "p_value": 0.3}
        >>> not_lower(metrics, [{"model_a": "trees", "model_b": "lens", "p_value": 0.04}, other_pair])[1]
        []
    """
    best = max(metrics, key=itemgetter("auc"))
    others = {record["model"] for record in metrics} - {best["model"]}
    pairs = [({pair["model_a"], pair["model_b"]}, pair["p_value"]) for pair in comparisons]
    with_best = {other: p_value for pair, p_value in pairs if best["model"] in pair for other in pair & others}
    adjusted = holm(np.array([*with_best.values()]))
    return best, [
        other for other, p_value in zip(with_best, adjusted, strict=True) if p_value >= 1 - best["confidence"]
    ]


def headline(metrics: Sequence[ModelMetrics], comparisons: Sequence[Comparison], unread: Sequence[str] = ()) -> str:
    """Say in a sentence what `not_lower` returns of the models, without those in `unread`, see `unread_titles`.

    Examples:
        >>> metrics = [{"model": "lens", "auc": 0.78, "confidence": 0.95}, {"model": "trees", "auc": 0.77}]
        >>> headline(metrics, [{"model_a": "trees", "model_b": "lens", "p_value": 0.3}])
        'Highest AUC: lens, 0.780; not significantly lower: trees.'
        >>> headline(metrics, [], unread=["trees"])
        'Highest AUC: lens, 0.780. No evidence that titles are read, so not compared: trees.'
    """
    judged = [record for record in metrics if record["model"] not in unread]
    best, near = not_lower(judged, comparisons)
    others = f"; not significantly lower: {', '.join(near)}" if near else "; all others are significantly lower"
    others = others if len(judged) > 1 else ""
    none = f" No evidence that titles are read, so not compared: {', '.join(unread)}." if unread else ""
    return f"Highest AUC: {best['model']}, {formats.metric(best['auc'])}{others}.{none}"


def describe_tests(metrics: Records, comparisons: Records) -> str:
    """Describe how intervals and p-values were computed.

    Examples:
        >>> describe_tests([{"users": 1200}] * 3, [{"p_adjusted": 0.3}] * 3)
        'cluster bootstrap over 1,200 users, Holm over 3 pairs'
    """
    pairs = f"{len(comparisons)} pair{'' if len(comparisons) == 1 else 's'}"
    return f"cluster bootstrap over {metrics[0]['users']:,} users, Holm over {pairs}"


USES = {"title": ("titles", "reads"), "prompt": ("prompts", "uses")}


def unread_titles(attribution: Sequence[InputEffect]) -> list[str]:
    """Return the models whose AUC does not fall significantly when prompts exchange the titles of their targets."""
    return [record["model"] for record in attribution if record["input"] == "title" and record["low"] <= 0]


def describe_use(attribution: Sequence[InputEffect]) -> list[tuple[str, bool]]:
    """Say of each LLM whether it reads titles and uses prompts, and what exchanged ones cost; True: it does.

    Examples:
        >>> fall = {"fall": 0.034, "low": 0.002, "high": 0.069, "within": None, "within_low": None, "within_high": None}
        >>> describe_use([{"model": "reclora", "input": "title"} | fall])[0][0]
        'reclora: with titles exchanged, AUC falls by 0.034 (0.002 to 0.069), within users by – (–): it reads titles.'
    """
    texts = []
    for record in (each for each in attribution if each["input"] in USES):
        (inputs, verb), used = USES[record["input"]], record["low"] > 0
        costs = f"{formats.metric(record['fall'])} ({formats.interval(record['low'], record['high'])})"
        within = f"{formats.metric(record['within'])} ({formats.interval(record['within_low'], record['within_high'])})"
        verdict = f"it {verb} {inputs}" if used else f"no evidence that it {verb} {inputs}"
        falls = f"{record['model']}: with {inputs} exchanged, AUC falls by {costs}, within users by {within}"
        texts.append((f"{falls}: {verdict}.", used))
    return texts


LABELS = {
    "lens": "click model on ids and histories",
    "untrained": "the LLM without fine-tuning",
    "constant": "the share of likes in training, for all rows",
}
"""What models without a module are, in a few words."""
OF_VARIANT = "the LLM with a trained adapter"


def models_table(metrics: Sequence[ModelMetrics], labels: Mapping[str, str] | None = None) -> Table:
    """Tabulate models by falling AUC, with a constant and, if labels are given, with what each is."""
    first = metrics[0]
    best_first: list[Mapping[str, Any]] = sorted(metrics, key=itemgetter("auc"), reverse=True)
    if "constant_log_loss" in first:
        constant = {"model": "constant", "auc": 0.5, "log_loss": first["constant_log_loss"]}
        best_first.append(dict.fromkeys(first) | constant)
    texts: dict[str, Any] = {"model": (str, "model")}
    numbers: dict[str, Any] = {
        "AUC": (formats.metric, "auc"),
        f"{formats.level(first['confidence'])} interval": (formats.interval, "auc_low", "auc_high"),
    }
    further = {each.heading: (each.text, each.name) for each in row_metrics() if each not in (AUC, GAUC, ACCURACY)}
    if labels is not None:
        texts["what it is"] = lambda model: (LABELS | dict(labels)).get(model, OF_VARIANT), "model"
        numbers |= further
    else:
        numbers |= {f"GAUC of\n{first['gauc_users']:,} users": (formats.metric, "gauc"), **further}
        if "split_rows" in first:
            numbers[f"AUC of all\n{first['split_rows']:,} rows"] = formats.metric, "split_auc"
    rows = f"{first['rows']:,} test rows of {first['users']:,} users, {first['positives']:,} of them likes"
    return text_table(f"How well models predict likes: {rows}", best_first, texts, numbers)


def lens_table(metrics: Sequence[ModelMetrics]) -> Table:
    """Tabulate how well the lens, and similarity alone, predict on the whole test split."""
    first = metrics[0]
    numbers = {
        "AUC": (formats.metric, "auc"),
        f"{formats.level(first['confidence'])} interval": (formats.interval, "auc_low", "auc_high"),
        f"GAUC of\n{first['gauc_users']:,} users": (GAUC.estimate, "gauc", "gauc_low", "gauc_high"),
        "AUC of items\nnever trained on": (formats.metric, "auc_cold"),
    }
    title = f"All test rows: {first['rows']:,} of {first['users']:,} users, {first['positives']:,} of them likes"
    return text_table(title, metrics, {"model": (str, "model")}, numbers)


def results_tables(
    metrics: Sequence[ModelMetrics],
    comparisons: Sequence[Comparison],
    attribution: Sequence[InputEffect],
    labels: Mapping[str, str] | None = None,
) -> Group:
    """Tabulate how well models predict, say which LLMs read titles and use prompts, and end with the headline.

    Permutation importance and the differences of all pairs are in the report.
    """
    unread = unread_titles(attribution)
    if labels is not None:
        known = LABELS | dict(labels)
        labels = known | {model: f"{known.get(model, OF_VARIANT)}; may not read titles" for model in unread}
    uses = (Text(line, style="" if used else "bold red") for line, used in describe_use(attribution))
    return Group(models_table(metrics, labels), *uses, Text(headline(metrics, comparisons, unread), style="bold"))


def retriever_table(training_log: Records) -> Table:
    """Tabulate the epochs of a retriever's training, with the kept one in bold."""
    four = "{:.4f}".format
    columns = {"loss": (formats.metric, "loss"), "HR@10": (four, "hit_rate"), "NDCG@10": (four, "ndcg")}
    return _training_table("Retriever, validation likes", "epoch", training_log, ["hit_rate", "ndcg"], columns)


def encoder_table(training_log: Records) -> Table:
    """Tabulate the validations of an item encoder's tuning, with the kept one in bold."""
    measures = {"loss": "loss", "validation loss": "validation_loss", "validation AUC": "validation_auc"}
    columns = {"pairs": (formats.count, "pairs")} | {head: (formats.metric, name) for head, name in measures.items()}
    return _training_table("Item encoder, validation pairs", "step", training_log, ["validation_auc"], columns)


def _training_table(title: str, unit: str, training_log: Records, chosen_by: Sequence[str], columns: Columns) -> Table:
    best = max(training_log, key=itemgetter(*chosen_by))
    columns = {unit: (formats.count, unit), **columns, "seconds": ("{:.0f}".format, "seconds")}
    table = text_table(f"{title}: {unit} {best[unit]} is kept", training_log, {}, columns)
    table.rows[training_log.index(best)].style = "bold"
    return table


def render_report(
    results: Results,
    figures: Mapping[str, go.Figure],
    notes: Mapping[str, str],
    allow_mixed: bool = False,
    found: Recommended | None = None,
) -> str:
    """Render the self-contained HTML report: answers, tables, figures, and how to read them.

    `figures` have the names of the node `write_report`, and `notes` describe models by name. With `allow_mixed`, the
    page warns that inputs may stem from different runs.
    """
    results = replace(results, metrics=sorted(results.metrics, key=itemgetter("auc"), reverse=True))
    first, *_ = results.metrics
    models = [record["model"] for record in results.metrics]
    others = ("model", "rows", "validation_auc", "weights", "seconds")
    measures = [name for name in dict.fromkeys(chain.from_iterable(results.training_report)) if name not in others]
    unread = unread_titles(results.attribution)
    judged = [record for record in results.metrics if record["model"] not in unread]
    warned = [record["warning"] for record in results.negatives_report if record["warning"]]
    return render_page(
        "reclora_kedro.evaluation.templates",
        "report.html.jinja",
        figures,
        **vars(results),
        best=judged[0],
        near=not_lower(judged, results.comparisons)[1],
        unread=unread,
        headline=headline(results.metrics, results.comparisons, unread),
        uses=describe_use(results.attribution),
        found=found,
        notes={model: notes[model] for model in models if model in notes},
        tests=describe_tests(results.metrics, results.comparisons),
        tests_of_best=describe_tests(judged, judged[1:]),  # each with the best
        allow_mixed=allow_mixed,
        warnings=warned,
        segmentations=_segments_by_model(results.segments, models),
        training_measures=measures,
        confidence=first["confidence"],
        declared=row_metrics(),
        constant={"auc": 0.5} | {name: first.get(f"constant_{name}") for name in ("log_loss", "accuracy")},
    )


def _segments_by_model(segments: Sequence[SegmentAuc], models: Sequence[str]) -> dict[str, list[ShownSegment]]:
    segmentations: dict[str, list[ShownSegment]] = {}
    for (by, _), records in groupby(segments, key=itemgetter("by", "segment")):
        of_model = {record["model"]: record for record in records}
        first, *_ = of_model.values()
        aucs = [of_model[model]["auc"] for model in models]
        best = max((auc for auc in aucs if auc is not None), default=None)
        segmentations.setdefault(by, []).append({**first, "aucs": aucs, "best": best})
    return segmentations
