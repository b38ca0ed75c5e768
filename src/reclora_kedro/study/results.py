"""Metrics and costs of a study's cells: as one long table, as means over the seeds, on the terminal and as a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from operator import itemgetter
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from rich.console import Group
from rich.table import Table

from kedro_provenance.recipe import StoredVersion
from reclora_kedro.adapters.registry import adapter_method
from reclora_kedro.cells import FinishedCell
from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.bootstrap import Estimate
from reclora_kedro.evaluation.metrics import kept_validation, row_metrics
from reclora_kedro.evaluation.page import render_page
from reclora_kedro.evaluation.records import Record, Records
from reclora_kedro.recommendation.list_metrics import ranking_metrics
from reclora_kedro.study.config import Costs, metric_columns
from reclora_kedro.study.grid import Cell, describe
from reclora_kedro.terminal import text_table

# Averaged over the seeds, as metrics are.
AVERAGED = ("auc_cold", "gauc_users", "validation_auc", "validation_hit_rate", "train_seconds", "ms_per_row")


class CellResult(NamedTuple):
    """Results of one cell: a record of metrics and costs per model, and one per pair of models."""

    models: list[Record]
    pairs: Records


@dataclass(frozen=True)
class StudiedCell:
    """A cell of a study and its result."""

    cell: Cell
    result: CellResult

    def to_json(self) -> Record:
        return {"cell": asdict(self.cell), "result": self.result._asdict()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        return cls(Cell(**record["cell"]), CellResult(**record["result"]))


def cell_result(cell: FinishedCell) -> CellResult:
    """Collect a cell's metrics and costs; `digest` identifies everything that its metrics were made from."""
    metrics, *others = (cell.catalog.load(name) for name in cell.outputs)
    longest = max(record.get("k", 0) for record in metrics)  # ranking_metrics are of lists of several lengths
    comparisons, attribution = others or ([], [])
    auc_lost = {record["model"]: record["fall"] for record in attribution if record["input"] == "prompt"}
    revisions = {stored_output(cell, name).revision or "unknown" for name in cell.flow.all_outputs()}
    origin = {"digest": recipe_key(cell, cell.outputs[0]), "revision": ", ".join(sorted(revisions))}
    models = [
        {"model": record["model"]}
        | {name: record.get(name) for name in metric_columns()}
        | {"confidence": cell.catalog.load("params:bootstrap.confidence")}  # lens_metrics have none
        | {"auc_lost_without_prompt": auc_lost.get(record["model"])}
        | dict(model_costs(record, cell))
        | origin
        for record in metrics
        if record.get("k", 0) == longest
    ]
    return CellResult(models, comparisons)


def stored_output(cell: FinishedCell, name: str) -> StoredVersion:
    """Return an output of a finished cell as it is stored."""
    stored = cell.catalog.stored(name)
    assert stored is not None
    return stored


def recipe_key(cell: FinishedCell, name: str) -> str:
    """Return the key of the recipe of an output of a finished cell."""
    recipe = stored_output(cell, name).recipe
    assert recipe is not None
    return recipe.key


def model_costs(record: Mapping[str, Any], cell: FinishedCell) -> Costs:
    """Return the costs of a model of a cell, from its training log and scores and the times of their nodes."""
    model, outputs, load = record["model"], cell.flow.all_outputs(), cell.catalog.load
    log_entry, scores_entry = (
        next((name for name in (f"{model}.{kind}", f"{model}_{kind}") if name in outputs), None)
        for kind in ("training_log", "scores")
    )
    # A flow that ends at the lens keeps its metrics but not its scores; one that ranks has ranks for scores.
    scores = scores_entry or ("item_ranks" if "hit_rate" in record else "lens_metrics")
    [scoring] = [node for node in cell.flow.nodes if scores in node.outputs]
    seconds = max(stored_output(cell, name).seconds for name in scoring.outputs)
    rows = load(scores_entry).height if scores_entry else record["rows"]
    if (permuted_entry := f"{model}.permuted_scores") in scoring.outputs:
        inputs = load(permuted_entry)["input"]
        rows += (inputs == "title").sum()
        adapter = load(f"params:finetuning.variants.{model}").adapter if log_entry else None  # none: untrained
        if adapter and adapter_method(adapter.method).has_gates(adapter):  # one pass serves prompts and gate inputs
            rows += max((inputs == name).sum() for name in ("prompt", "gate inputs"))
    log = pl.DataFrame(load(log_entry) if log_entry else None)
    return {
        "weights": log["weights"][-1] if "weights" in log.columns else record.get("weights"),
        "validation_auc": kept_validation(log),
        "validation_hit_rate": kept_validation(log, "hit_rate"),
        "train_seconds": stored_output(cell, log_entry).seconds if log_entry else None,
        "score_seconds": seconds,
        "scored_rows": rows,
        "ms_per_row": 1000 * seconds / rows,
    }


def tabulate(cells: Sequence[Cell], results: Sequence[CellResult], models: Sequence[str] | None) -> list[Record]:
    """Return one record per cell and model (None: all): grid, setting on every axis, seed, metrics and costs."""
    scored = dict.fromkeys(record["model"] for result in results for record in result.models)
    if unknown := [model for model in models or () if model not in scored]:
        raise ValueError(f"study.models names {unknown[0]!r}, but the cells have {', '.join(scored)}.")
    own = _with_places(cells, (result.models for result in results))
    return [record for record in own if models is None or record["model"] in models]


def tabulate_pairs(cells: Sequence[Cell], results: Sequence[CellResult], models: Sequence[str] | None) -> list[Record]:
    """Return one record per cell and pair of models: grid, setting on every axis, seed and paired difference."""
    own = _with_places(cells, (result.pairs for result in results))
    return [pair for pair in own if models is None or {pair["model_a"], pair["model_b"]} <= set(models)]


@dataclass(frozen=True)
class GridResults:
    """The rows of a table of results that are of one grid."""

    name: str
    records: Records
    axes: list[str]
    seeds: list[int]
    metric: str  # what the grid compares: auc, or hit_rate where it ranks whole catalogues
    label: str  # name of it in tables and figures

    def summarise(self, axes: Sequence[str] | None = None) -> list[Record]:
        """Average each model over the seeds at every place of some axes (None: all); others within each seed.

        Returns:
            Records of place (setting by axis), model, seeds (count), the means of all metrics and of `AVERAGED` (None
            where a value is missing), and the ends of the interval of `metric`, such as auc_low and auc_high:
            Student's over the seeds, clipped to [0, 1] (None for one seed).
        """
        axes = self.axes if axes is None else axes
        cells: dict[tuple[str, ...], dict[int, list[Mapping[str, Any]]]] = {}
        for record in self.records:
            by_seed = cells.setdefault((record["model"], *(record[axis] for axis in axes)), {})
            by_seed.setdefault(record["seed"], []).append(record)
        averaged = [*(each.name for each in (*row_metrics(), *ranking_metrics())), *AVERAGED]
        summaries = []
        for (model, *settings), by_seed in cells.items():
            seeds = [by_seed[seed] for seed in sorted(by_seed)]
            means = {name: [_mean([one.get(name) for one in records]) for records in seeds] for name in averaged}
            low, high = None, None
            if len(seeds) > 1:
                ends = Estimate.from_sample(np.array(means[self.metric])).interval(seeds[0][0]["confidence"])
                low, high = (float(end.clip(0, 1)) for end in ends)
            summaries.append(
                {"place": dict(zip(axes, settings, strict=True)), "model": model, "seeds": len(seeds)}
                | {name: _mean(values) for name, values in means.items()}
                | {f"{self.metric}_low": low, f"{self.metric}_high": high}
            )
        return summaries


def grids_of(results: Records) -> list[GridResults]:
    """Return the parts of a table of results, by grid.

    Examples:
        >>> [grid] = grids_of([{"grid": "rank", "r": "8", "k": None, "seed": 0, "model": "lens", "auc": 0.7}])
        >>> grid.axes, grid.seeds, grid.label
        (['r'], [0], 'AUC')
    """
    grids = []
    for name, records in grouped(results, "grid").items():
        first = records[0]
        own = takewhile(lambda column: column != "seed", first)  # behind the axes of all grids
        axes = [column for column in own if column != "grid" and first[column] is not None]
        metric, label = ("hit_rate", f"HR@{first['k']}") if first["auc"] is None else ("auc", "AUC")
        grids.append(GridResults(name, records, axes, sorted({each["seed"] for each in records}), metric, label))
    return grids


def grouped(records: Records, column: str) -> dict[str, Records]:
    """Return records by their value in a column, in order of first appearance."""
    values = dict.fromkeys(record[column] for record in records)
    return {value: [record for record in records if record[column] == value] for value in values}


def _with_places(cells: Sequence[Cell], records: Iterable[Records]) -> list[Record]:
    """Return each cell's records behind the columns that identify it; None on the axes of other grids."""
    axes, rows = dict.fromkeys(axis for cell in cells for axis in cell.place), list[Record]()
    for cell, own in zip(cells, records, strict=True):
        place = {"grid": cell.grid} | {axis: cell.place.get(axis) for axis in axes} | {"seed": cell.seed}
        rows += [place | dict(record) for record in own]
    return rows


def _mean(values: Sequence[Any]) -> float | None:
    return None if None in values else float(np.mean(values))


def best_settings(results: Records) -> list[str]:
    """State for each grid and model the place that validates best, and its metric on test rows."""
    sentences = []
    for grid in grids_of(results):
        validation = f"validation_{grid.metric}"
        for model, summaries in grouped(grid.summarise(), "model").items():
            validated = [summary for summary in summaries if summary[validation] is not None]
            if len({summary[validation] for summary in validated}) > 1:  # else the grid does not touch the model
                best = max(validated, key=itemgetter(validation))
                sentences.append(
                    f"{grid.name}: validation chooses {describe(best['place'])} for {model} ({best[validation]:.3f}); "
                    f"its {grid.label} on test rows is {best[grid.metric]:.3f}."
                )
    return sentences


def study_tables(results: Records) -> Group:
    """Tabulate AUC or hit rate of every model at every place, one table per grid."""
    return Group(*map(_table_of, grids_of(results)))


def _table_of(grid: GridResults) -> Table:
    summaries, metric = grid.summarise(), grid.metric
    seeds, interval = summaries[0]["seeds"], f"{formats.level(grid.records[0]['confidence'])} interval"
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    numbers: dict[str, tuple[Any, ...]] = {grid.label: (formats.metric, metric)}
    if seeds > 1:
        numbers[interval] = (formats.interval, f"{metric}_low", f"{metric}_high")
    return text_table(
        f"{grid.name}: {grid.label} on test rows, {over}",
        [summary | summary["place"] for summary in summaries],
        {axis: (str, axis) for axis in grid.axes} | {"model": (str, "model")},
        numbers | {"validation": (formats.metric, f"validation_{metric}")},
    )


def render_study(results: Records, titles: Mapping[str, str], figures: Mapping[str, Any]) -> str:
    """Render the self-contained HTML page of a study: best settings, a table per grid, and the figures."""
    return render_page(
        "reclora_kedro.study",
        "study.html.jinja",
        figures,
        sentences=best_settings(results),
        grids=grids_of(results),
        grid_titles=titles,
        further={"auc": row_metrics(), "hit_rate": ranking_metrics()},
        confidence=results[0]["confidence"],
    )
