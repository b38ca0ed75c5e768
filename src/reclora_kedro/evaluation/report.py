"""The results in words, on the terminal and as one HTML page."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import plotly.graph_objects as go
from rich.console import Group
from rich.table import Table
from rich.text import Text

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.evaluation.terminal import empty_table

Records = Sequence[Mapping[str, Any]]


def summarise(metrics: Records, comparisons: Records) -> list[str]:
    """Sentences: the models from best to worst AUC, whether chance explains each step down, and how that is known.

    Examples:
        >>> lens = {
        ...     "model": "lens", "rows": 2000, "positives": 1100, "users": 300, "confidence": 0.95,
        ...     "auc": 0.76, "auc_low": 0.74, "auc_high": 0.78,
        ... }
        >>> tuned = lens | {"model": "reclora", "auc": 0.77, "auc_low": 0.75, "auc_high": 0.79}
        >>> pair = {"model_a": "reclora", "model_b": "lens", "auc_difference": 0.01, "p_adjusted": 0.3}
        >>> for sentence in summarise([lens, tuned], [pair]):
        ...     print(sentence)
        On the same 2,000 test rows (1,100 likes), reclora has the highest AUC: 0.770 (95% interval 0.750 to 0.790).
        lens follows at 0.760, 0.010 below reclora: within what chance explains (p = 0.300).
        Chance means another draw of test users (cluster bootstrap over 300 users, Holm over 1 pair).
    """
    ordered = sorted(metrics, key=lambda record: record["auc"], reverse=True)
    p_values = {frozenset((pair["model_a"], pair["model_b"])): pair["p_adjusted"] for pair in comparisons}
    best = ordered[0]
    interval = formats.interval(best["auc_low"], best["auc_high"])
    sentences = [
        f"On the same {best['rows']:,} test rows ({best['positives']:,} likes), {best['model']} has the highest "
        f"AUC: {formats.metric(best['auc'])} ({formats.level(best['confidence'])} interval {interval})."
    ]
    for above, below in pairwise(ordered):
        p_value = p_values[frozenset((above["model"], below["model"]))]
        explained = "more than" if p_value < 1 - best["confidence"] else "within what"
        equals = "" if p_value < 0.001 else "= "
        auc, lost = formats.metric(below["auc"]), formats.metric(above["auc"] - below["auc"])
        sentences.append(
            f"{below['model']} follows at {auc}, {lost} below {above['model']}: {explained} chance explains "
            f"(p {equals}{formats.p_value(p_value)})."
        )
    return [*sentences, f"Chance means another draw of test users ({describe_tests(metrics, comparisons)})."]


def describe_tests(metrics: Records, comparisons: Records) -> str:
    """How intervals and p-values were made.

    Examples:
        >>> describe_tests([{"users": 1200}] * 3, [{"p_adjusted": 0.3}] * 3)
        'cluster bootstrap over 1,200 users, Holm over 3 pairs'
    """
    pairs = f"{len(comparisons)} pair{'' if len(comparisons) == 1 else 's'}"
    return f"cluster bootstrap over {metrics[0]['users']:,} users, Holm over {pairs}"


def unread_prompts(attribution: Records) -> list[str]:
    """A sentence about each model whose AUC does not fall, beyond chance, when its prompts are other rows'.

    Examples:
        >>> record = {"model": "reclora", "input": "prompt", "fall": 0.002, "low": -0.004, "high": 0.008}
        >>> unread_prompts([record])
        ['reclora is not shown to read its prompts: with those of other rows, it loses 0.002 AUC (-0.004 to 0.008).']
        >>> unread_prompts([record | {"low": 0.001}])
        []
    """
    return [
        f"{record['model']} is not shown to read its prompts: with those of other rows, it loses "
        f"{formats.metric(record['fall'])} AUC ({formats.interval(record['low'], record['high'])})."
        for record in attribution
        if record["input"] == "prompt" and record["low"] <= 0
    ]


def attribution_table(attribution: Records) -> Table:
    """What each model reads."""
    first = attribution[0]
    table = empty_table(
        f"What each model reads: AUC lost when an input is another row's ({first['rows']:,} test rows)",
        ["model", "input"],
        ["AUC", "permuted", "lost", f"{formats.level(first['confidence'])} interval"],
    )
    for record in attribution:
        table.add_row(
            record["model"],
            record["input"],
            formats.metric(record["auc"]),
            formats.metric(record["permuted_auc"]),
            formats.difference(record["fall"]),
            formats.interval(record["low"], record["high"], "+"),
            style="red" if unread_prompts([record]) else None,
        )
    return table


def differences_table(title: str, texts: Sequence[str], confidence: float, rows: Iterable[Sequence[Any]]) -> Table:
    """Differences between models.

    Args:
        title: of the table.
        texts: headings of what tells the differences apart.
        confidence: level of the intervals.
        rows: these texts, the difference, the ends of its interval and its adjusted p-value.
    """
    table = empty_table(title, texts, ["difference", f"{formats.level(confidence)} interval", "adjusted p"])
    for *names, difference, low, high, p_adjusted in rows:
        interval = formats.interval(low, high, "+")
        table.add_row(*names, formats.difference(difference), interval, formats.p_value(p_adjusted))
    return table


def results_tables(metrics: Records, comparisons: Records, attribution: Records) -> Group:
    """Models by metrics, every paired difference, and what the models read."""
    first = metrics[0]
    interval = f"{formats.level(first['confidence'])} interval"
    models = empty_table(
        f"Test rows: {first['rows']:,} of {first['users']:,} users, {first['positives']:,} of them likes",
        ["model"],
        ["AUC", interval, "GAUC", "log loss", "accuracy"],
    )
    for record in metrics:
        gauc, log_loss, accuracy = (formats.metric(record[name]) for name in ("gauc", "log_loss", "accuracy"))
        ends = formats.interval(record["auc_low"], record["auc_high"])
        models.add_row(record["model"], formats.metric(record["auc"]), ends, gauc, log_loss, accuracy)
    values = itemgetter("auc_difference", "low", "high", "p_adjusted")
    pairs = differences_table(
        f"AUC differences ({describe_tests(metrics, comparisons)})",
        ["pair"],
        first["confidence"],
        ((f"{pair['model_a']} - {pair['model_b']}", *values(pair)) for pair in comparisons),
    )
    warnings = [Text(sentence, style="bold red") for sentence in unread_prompts(attribution)]
    return Group(models, pairs, attribution_table(attribution), *warnings)


def ranking_tables(metrics: Records, notes: Mapping[str, str]) -> Group:
    """Models by ranking metrics, a table per cutoff, and each model's NDCG less that of the best one without an LLM.

    Args:
        metrics: records as `compute_ranking_metrics` returns them.
        notes: what each rival is, by its name.
    """
    first = metrics[0]
    title = f"{first['rows']:,} likes of {first['users']:,} users, each among {first['candidates']:,.0f} items"
    tables: list[Table] = []
    for k in dict.fromkeys(record["k"] for record in metrics):
        table = empty_table(
            f"{title} ({formats.level(first['confidence'])} intervals)",
            ["model"],
            [f"HR@{k}", f"NDCG@{k}", "MRR", f"coverage\n@{k}", f"novelty\n@{k}"],
        )
        for record in metrics:
            if record["k"] == k:
                means = (
                    formats.estimate(*(record[f"{name}{end}"] for end in ("", "_low", "_high")))
                    for name in ("hit_rate", "ndcg", "mrr")
                )
                table.add_row(record["model"], *means, f"{record['coverage']:.1%}", f"{record['novelty']:.1f}")
        tables.append(table)
    pairs = [record for record in metrics if record["model"] != record["rival"]]
    values = itemgetter("ndcg_difference", "ndcg_difference_low", "ndcg_difference_high", "p_adjusted")
    differences = differences_table(
        f"NDCG differences ({describe_tests(metrics, pairs)})",
        ["pair", "k"],
        first["confidence"],
        ((f"{record['model']} - {record['rival']}", f"{record['k']}", *values(record)) for record in pairs),
    )
    rivals = dict.fromkeys(record["model"] for record in metrics if record["model"] in notes)
    return Group(*tables, differences, *(Text(f"{name}: {notes[name]}") for name in rivals))


def render_report(
    metrics: Records,
    comparisons: Records,
    tables: Mapping[str, Records],
    figures: Mapping[str, go.Figure],
    notes: Mapping[str, str],
    warnings: Sequence[str] = (),
) -> str:
    """One HTML page that opens without a network: summary, tables, figures, and how to read them.

    Args:
        metrics: records as `compute_metrics` returns them.
        comparisons: records as `compare_models` returns them.
        tables: "attribution", records as `attribute` returns them; "segments", as `compute_segments` does; and
            "ingestion_report", records of check, rows and rule.
        figures: the figures "auc", "roc", "calibration" and "training"; each one's title becomes its heading.
        notes: what each rival is, by its name.
        warnings: sentences that stand in red below the summary.
    """
    return render_page(
        "reclora_kedro.evaluation",
        "report.html.jinja",
        figures,
        summary=summarise(metrics, comparisons),
        metrics=metrics,
        notes={record["model"]: notes[record["model"]] for record in metrics if record["model"] in notes},
        comparisons=comparisons,
        tests=describe_tests(metrics, comparisons),
        attribution=tables["attribution"],
        warnings=[*warnings, *unread_prompts(tables["attribution"])],
        segmentations=_segments_by_model(tables["segments"]),
        ingestion_report=tables["ingestion_report"],
        confidence=metrics[0]["confidence"],
    )


def _segments_by_model(segments: Records) -> dict[str, list[dict[str, Any]]]:
    """By segmentation, its segments, each with the AUCs of the models in their order."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for (by, _), records in groupby(segments, key=itemgetter("by", "segment")):
        of_models = list(records)
        aucs = [record["auc"] for record in of_models]
        best = max((auc for auc in aucs if auc is not None), default=None)
        shown.setdefault(by, []).append({**of_models[0], "aucs": aucs, "best": best})
    return shown
