"""How well methods find items, on the terminal and as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.metric import Metric, columns_of
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.evaluation.report import describe_tests
from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE
from reclora_kedro.recommendation.backtest import AuditRow, MethodRow, WindowRow, WinnerRow
from reclora_kedro.recommendation.config import RERANKED
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

METHODS_HEADING = (
    "Hit rate of the methods: share of {rows:,} validation likes among the first {k} of {candidates:,.0f} items"
)


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
    tables.append(text_table("Means over users instead of likes", of_users, model, of_each_user))
    among = {name: f"first {name.removeprefix('among_')}" for name in first if name.startswith("among_")}
    whole = _estimates(first["k"], *(metric for metric in ranking_metrics() if "{k}" not in metric.heading))
    whole = {**whole, **{heading: ("{:.3f}".format, name) for name, heading in among.items()}}
    tables.append(text_table("The whole ranking and longer lists", by_cutoff[first["k"]], model, whole))
    further: Columns = {metric.heading: (metric.text, metric.name) for metric in BEYOND_ACCURACY}
    for k in by_cutoff:
        of_all = [record for record in beyond_accuracy if (record["k"], record["segment"]) == (k, ALL)]
        tables.append(text_table(f"Beyond accuracy: the first {k} items", of_all, model, further))
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
        tables.append(text_table(f"Difference in NDCG@{k} from {baseline} ({tests})", others, model, columns))
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


def methods_shown(metrics: Sequence[RankingRow], chosen: str) -> list[RankingRow]:
    """Return the methods to show, by falling NDCG: those that the lens has not reranked, and the chosen one."""
    shown = [record for record in metrics if record["model"] == chosen or not record["model"].endswith(RERANKED)]
    return sorted(shown, key=itemgetter("ndcg"), reverse=True)


def methods_table(
    metrics: Sequence[RankingRow], chosen: str, labels: Mapping[str, str], heading: str = METHODS_HEADING
) -> Table:
    """Tabulate how well methods find what users liked, see `methods_shown`; the heading has fields of a record."""
    first, k, level = metrics[0], metrics[0]["k"], formats.level(metrics[0]["confidence"])
    texts: Columns = {"method": (str, "model"), "what it is": (lambda model: labels.get(model, ""), "model")}
    interval = (formats.interval, "hit_rate_low", "hit_rate_high")
    numbers: Columns = {f"HR@{k}": (formats.metric, "hit_rate"), f"{level} interval": interval}
    is_chosen: Columns = {"": (lambda model: "chosen" if model == chosen else "", "model")}
    return text_table(heading.format_map(first), methods_shown(metrics, chosen), texts, {**numbers, **is_chosen})


def finding_verdict(metrics: Sequence[RankingRow], chosen: str) -> str:
    """Say in a sentence how well the chosen method finds items, beside popularity."""
    by_model = {record["model"]: record for record in metrics}
    best, k = by_model[chosen], metrics[0]["k"]
    beside = ""
    if "popularity" in by_model and chosen != "popularity":
        beside = f"; of popularity: {formats.metric(by_model['popularity']['hit_rate'])}"
    return f"HR@{k} of {chosen}: {formats.metric(best['hit_rate'])}{beside}."


def backtest_tables(
    metrics: Sequence[WindowRow], methods: Sequence[MethodRow], winners: Sequence[WinnerRow], audit: Sequence[AuditRow]
) -> Group:
    """Tabulate the NDCG of methods by window, say whether each window's order holds in the next, and show the audit."""
    means: Sequence[Mapping[str, Any]] = sorted(methods, key=itemgetter("ndcg"), reverse=True)
    k = metrics[0]["k"]
    windows = {record["window"]: record for record in metrics}
    rows = [
        {"from": first["from"]} | {each["model"]: each["ndcg"] for each in metrics if each["window"] == window}
        for window, first in windows.items()
    ]
    summed = {"mean": "ndcg", f"mean HR@{k}": "hit_rate", "share of windows won": "share_of_windows_won"}
    rows += [{"from": name} | {each["model"]: each[field] for each in means} for name, field in summed.items()]
    likes, methods_ = sum(each["rows"] for each in windows.values()), [method["model"] for method in means]
    title = f"NDCG@{k} by window: {likes:,} likes; models are fitted before each window"
    table = text_table(title, rows, {"from": (str, "from")}, {name: (formats.metric, name) for name in methods_})
    texts = {"check": (str, "check"), "how to read it": (str, "meaning")}
    checks = text_table("Audit of the log", audit, texts, {"value": (formats.metric, "value")})
    return Group(table, Text(winners_verdict(winners, k), style="bold"), checks)


def winners_verdict(winners: Sequence[WinnerRow], k: int) -> str:
    r"""Say whether the method that was best in one window can be believed in the next.

    Examples:
        >>> one = {"tau": 0.8, "winner": "a", "winner_before": "a", "ndcg": 0.2, "ndcg_of_winner_before": 0.2}
        >>> other = {"tau": 0.4, "winner": "b", "winner_before": "a", "ndcg": 0.3, "ndcg_of_winner_before": 0.28}
        >>> print(winners_verdict([one, other], 10).replace("; ", ";\n"))
        The best method of a window was also the best of the next window in 1 of 2 cases;
        on average, its NDCG@10 was 0.010 below the best. Kendall's tau between the orders: 0.80, 0.40.
    """
    same = sum(record["winner"] == record["winner_before"] for record in winners)
    lost = sum(record["ndcg"] - record["ndcg_of_winner_before"] for record in winners) / len(winners)
    taus = ", ".join(formats.DASH if record["tau"] is None else f"{record['tau']:.2f}" for record in winners)
    return (
        f"The best method of a window was also the best of the next window in {same} of {len(winners)} cases; on "
        f"average, its NDCG@{k} was {formats.metric(lost)} below the best. Kendall's tau between the orders: {taus}."
    )
