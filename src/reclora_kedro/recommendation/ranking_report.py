"""Rankings of whole catalogues on the terminal and as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.metric import Metric, columns_of
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.evaluation.report import describe_tests
from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE
from reclora_kedro.recommendation.list_metrics import (
    BEYOND_ACCURACY,
    COVERAGE,
    GINI,
    HIT_RATE,
    NDCG,
    NOVELTY,
    ranking_metrics,
)
from reclora_kedro.recommendation.ranking_metrics import BeyondAccuracyRow, RankingRow
from reclora_kedro.terminal import Columns, text_table

if TYPE_CHECKING:
    import plotly.graph_objects as go


def ranking_table(metrics: Sequence[RankingRow]) -> Table:
    first, level = metrics[0], formats.level(metrics[0]["confidence"])
    likes = f"{first['rows']:,} likes of {first['users']:,} users, each among {first['candidates']:,.0f} items"
    columns = _estimates(first["k"], *(metric for metric in ranking_metrics() if "{k}" in metric.heading))
    return text_table(f"{likes} ({level} intervals)", metrics, {"model": (str, "model")}, columns)


def _estimates(k: int, *metrics: Metric) -> Columns:
    return {metric.heading.format(k=k): (metric.estimate, *columns_of([metric])) for metric in metrics}


def ranking_tables(
    metrics: Sequence[RankingRow], beyond_accuracy: Sequence[BeyondAccuracyRow], notes: Mapping[str, str]
) -> Group:
    """Tabulate ranking metrics per cutoff, over the whole ranking, and as differences in NDCG from the baseline.

    Of metrics beyond accuracy, segments by users' activity are in the report alone; `notes` describes methods by name.
    """
    first, level, model = metrics[0], formats.level(metrics[0]["confidence"]), {"model": (str, "model")}
    tests = describe_tests(metrics, [record for record in metrics if record["model"] != record["baseline"]])
    by_cutoff = {k: [record for record in metrics if record["k"] == k] for k in {record["k"]: 0 for record in metrics}}
    tables = [ranking_table(records) for records in by_cutoff.values()]
    headings = {"user_hit_rate": "HR", "user_ndcg": "NDCG"}
    of_users = [
        {"model": same[0]["model"]}
        | {f"{headings[name]}@{each['k']}": each[name] for each in same for name in headings}
        for same in zip(*by_cutoff.values(), strict=True)
    ]
    of_each_user = {name: ("{:.3f}".format, name) for name in of_users[0] if name != "model"}
    tables.append(text_table("Means of the users' means, in place of means over likes", of_users, model, of_each_user))
    among = {name: f"first {name.removeprefix('among_')}" for name in first if name.startswith("among_")}
    whole = _estimates(first["k"], *(metric for metric in ranking_metrics() if "{k}" not in metric.heading))
    whole = {**whole, **{heading: ("{:.3f}".format, name) for name, heading in among.items()}}
    tables.append(text_table("The likes among the first items", by_cutoff[first["k"]], model, whole))
    tables += [
        text_table(
            f"Beyond accuracy: the first {k} items",
            [record for record in beyond_accuracy if (record["k"], record["segment"]) == (k, ALL)],
            model,
            {metric.heading: (metric.text, metric.name) for metric in BEYOND_ACCURACY},
        )
        for k in by_cutoff
    ]
    by_event_before = [each for each in beyond_accuracy if (each["by"], each["k"]) == (EVENT_BEFORE, max(by_cutoff))]
    for _, of_segment in groupby(by_event_before, key=itemgetter("segment")):
        likes = [*of_segment]
        title = f"{likes[0]['rows']:,} likes where {EVENT_BEFORE} is {likes[0]['segment']}"
        tables.append(text_table(title, likes, model, _estimates(likes[0]["k"], HIT_RATE, NDCG)))
    for k, records in by_cutoff.items():
        baseline, names = records[0]["baseline"], ("ndcg_difference", "ndcg_difference_low", "ndcg_difference_high")
        others = [record for record in records if record["model"] != baseline]
        columns: Columns = {
            "difference": (formats.difference, names[0]),
            f"{level} interval": (formats.signed_interval, *names[1:]),
            "adjusted p": (formats.p_value, "p_adjusted"),
        }
        tables.append(text_table(f"NDCG@{k} less that of {baseline} ({tests})", others, model, columns))
    baselines = dict.fromkeys(record["model"] for record in metrics if record["model"] in notes)
    return Group(*tables, *(Text(f"{name}: {notes[name]}") for name in baselines))


def render_ranking(
    metrics: Sequence[RankingRow],
    beyond_accuracy: Sequence[BeyondAccuracyRow],
    figures: Mapping[str, go.Figure],
    notes: Mapping[str, str],
) -> str:
    """Render the HTML page of the ranking pipeline, with figures "ranking", "hit_rate" and "second_stage"."""
    return render_page(
        "reclora_kedro.recommendation",
        "ranking.html.jinja",
        figures,
        tables={k: list(records) for k, records in groupby(sorted(metrics, key=itemgetter("k")), key=itemgetter("k"))},
        beyond_accuracy=beyond_accuracy,
        accuracy=(HIT_RATE, NDCG),
        further=(COVERAGE, GINI, NOVELTY, *BEYOND_ACCURACY[1:]),
        metrics=ranking_metrics(),
        segments={(record["by"], record["segment"]): record["rows"] for record in beyond_accuracy},
        notes={record["model"]: notes[record["model"]] for record in metrics if record["model"] in notes},
        confidence=metrics[0]["confidence"],
    )
