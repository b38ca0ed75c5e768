"""The drift report on the terminal, as a figure and as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from reclora_extras.monitoring.config import POPULATIONS, K, MonitoringConfig
from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.figures import stacked_panels
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.evaluation.records import Records
from reclora_kedro.terminal import Columns, text_table

if TYPE_CHECKING:
    import plotly.graph_objects as go


def day(second: int) -> str:
    """Return the date of a second, in UTC.

    Examples:
        >>> day(86_400)
        '1970-01-02'
    """
    return datetime.fromtimestamp(second, UTC).date().isoformat()


def summary(records: Records) -> str:
    """Say how many periods raise alarms, and which came last.

    Examples:
        >>> quiet, loud = {"begin": 0, "alarms": []}, {"begin": 86_400, "alarms": ["AUC: 0.6, ..."]}
        >>> summary([quiet, loud])
        '1 of 1 periods after the reference raise alarms, the last one from 1970-01-02 on.'
        >>> summary([quiet, quiet])
        'None of the 1 periods after the reference raises an alarm.'
    """
    later = records[1:]
    raised = [record for record in later if record["alarms"]]
    if not raised:
        return f"None of the {len(later)} periods after the reference raises an alarm."
    last = day(raised[-1]["begin"])
    return f"{len(raised)} of {len(later)} periods after the reference raise alarms, the last one from {last} on."


def drift_table(records: Records) -> Group:
    """Tabulate accuracy and the largest index of each period; then the alarms."""

    def largest_psi(record: Mapping[str, Any]) -> float | None:
        return max((psi for name in POPULATIONS if (psi := record[f"psi_{name}"]) is not None), default=None)

    rates = {"AUC": "auc", f"HR@{K}": "hit_rate", "mean\nscore": "mean_score", "likes": "like_share"}
    rates |= {"most\nPSI": "psi", "un-\nknown\nusers": "unknown_users", "un-\nknown\nitems": "unknown_items"}
    columns: Columns = {"from": (day, "begin"), "events": (formats.count, "events")}
    columns = {**columns, **{heading: (formats.metric, name) for heading, name in rates.items()}}
    title = "Drift since the lens was trained; the first period is the reference"
    rows = [{**record, "psi": largest_psi(record)} for record in records]
    table = text_table(f"{title}. HR@{K} is of {records[0]['recommends']}", rows, {}, columns)
    alarms = [Text(f"{day(record['begin'])}: {alarm}", style="red") for record in records for alarm in record["alarms"]]
    return Group(table, *alarms, Text(summary(records), style="bold"))


def plot_drift(records: Records, config: MonitoringConfig) -> go.Figure:
    """Draw accuracy, calibration, stability indices and unknown ids by period, with the bounds of alarms."""
    panels = {
        "Accuracy": {"AUC of the lens": "auc", f"HR@{K} of {records[0]['recommends']}": "hit_rate"},
        "Calibration": {"mean score": "mean_score", "share of likes": "like_share"},
        "PSI to the reference": {name: f"psi_{name}" for name in POPULATIONS},
        "Unknown ids, share of events": {"unknown users": "unknown_users", "unknown items": "unknown_items"},
    }
    bounds = {"PSI to the reference": config.alarms.psi, "Unknown ids, share of events": config.alarms.unknown}
    figure = stacked_panels(summary(records), dict.fromkeys(panels, 200))
    dates = [day(record["begin"]) for record in records]
    for row, (title, lines) in enumerate(panels.items(), start=1):
        for name, column in lines.items():
            values = [record[column] for record in records]
            figure.add_scatter(x=dates, y=values, name=name, mode="lines+markers", row=row, col=1)
        if (bound := bounds.get(title)) is not None:
            figure.add_hline(y=bound, line_dash="dot", row=row, col=1)
    return figure.update_yaxes(rangemode="tozero")


def write_drift_report(records: Records, figure: go.Figure, config: MonitoringConfig) -> str:
    """Render the self-contained HTML page of the drift report."""
    return render_page(
        "reclora_extras.monitoring",
        "drift.html.jinja",
        {"drift": figure},
        summary=summary(records),
        records=[dict(record) | {"day": day(record["begin"])} for record in records],
        config=config,
        populations=POPULATIONS,
        k=K,
    )
