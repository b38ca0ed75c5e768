"""What the cells of a study reached and cost, as one long table and as means over the seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from reclora_kedro.adapters.methods import adapter_method
from reclora_kedro.evaluation.bootstrap import Estimate
from reclora_kedro.evaluation.metrics import validation_auc
from reclora_kedro.study.config import COLUMNS, METRICS
from reclora_kedro.study.grid import Cell

Record = dict[str, Any]
Records = Sequence[Mapping[str, Any]]

# over the seeds
AVERAGED = ("auc", "auc_cold", "gauc", "gauc_users", "log_loss", "validation_auc", "train_seconds", "ms_per_row")


class FinishedCell(Protocol):
    """A cell whose nodes have all been run, see `kedro_provenance.cells.FinishedCell`."""

    outputs: Sequence[str]
    flow: Any
    catalog: Any


class CellResult(NamedTuple):
    """What one cell left: a record of metrics and costs per model, and one per pair of models."""

    models: list[Record]
    pairs: Records


def result_of(cell: FinishedCell) -> CellResult:
    """What a cell reached and cost; `digest` is of all that its metrics were made from."""
    metrics, *others = (cell.catalog.load(name) for name in cell.outputs)
    comparisons, attribution = others or ([], [])
    lost = {record["model"]: record["fall"] for record in attribution if record["input"] == "prompt"}
    revisions = {cell.catalog.stored(name).revision or "unknown" for name in cell.flow.all_outputs()}
    made = {"digest": cell.catalog.stored(cell.outputs[0]).recipe.key, "revision": ", ".join(sorted(revisions))}
    models = [
        {"model": record["model"]}
        | {name: record.get(name) for name in METRICS}
        | {"confidence": cell.catalog.load("params:bootstrap.confidence")}  # which a lens measured alone has not
        | {"auc_lost_without_prompt": lost.get(record["model"])}
        | cost_of(record, cell)
        | made
        for record in metrics
    ]
    return CellResult(models, comparisons)


def cost_of(record: Mapping[str, Any], cell: FinishedCell) -> Record:
    """What a model with these metrics took, by what it leaves: {model}.scores or {model}_scores, and so on.

    Where the flow ends at the lens, its metrics are made from scores that are not kept.

    Returns:
        weights (how many are trained, None where that is not told), validation_auc (of those that were kept, None
        where it is not validated), train_seconds (of the node that trains it, None where it is not trained by itself),
        score_seconds (of the node that scores with it, loading included), scored_rows (once more where prompts or gate
        inputs of gates were permuted) and ms_per_row.
    """
    model, outputs, load, stored = record["model"], cell.flow.all_outputs(), cell.catalog.load, cell.catalog.stored
    trained, scored = (
        next((name for name in (f"{model}.{what}", f"{model}_{what}") if name in outputs), None)
        for what in ("training_log", "scores")
    )
    [scoring] = [node for node in cell.flow.nodes if (scored or "lens_metrics") in node.outputs]
    seconds = max(stored(name).seconds for name in scoring.outputs)
    rows = load(scored).height if scored else record["rows"]
    if (permuted := f"{model}.permuted_scores") in scoring.outputs:
        adapter = load(f"params:finetuning.variants.{model}").adapter
        if adapter_method(adapter.method).has_gates(adapter):  # one pass serves prompts and gate inputs of other rows
            crossed = load(permuted)["input"]
            rows += max((crossed == name).sum() for name in ("prompt", "gate inputs"))
    log = load(trained) if trained else pl.DataFrame()
    return {
        "weights": log["weights"][-1] if "weights" in log.columns else record.get("weights"),
        "validation_auc": validation_auc(log) if trained else None,
        "train_seconds": stored(trained).seconds if trained else None,
        "score_seconds": seconds,
        "scored_rows": rows,
        "ms_per_row": 1000 * seconds / rows,
    }


def tabulate(cells: Sequence[Cell], results: Sequence[CellResult], models: Sequence[str] | None) -> list[Record]:
    """One record per cell and model: its grid, its setting on every axis, seed, metrics and costs.

    Args:
        cells: the cells.
        results: what each of them left.
        models: those to report; None: all.

    Raises:
        ValueError: no cell has one of the models.
    """
    scored = dict.fromkeys(record["model"] for result in results for record in result.models)
    if unknown := [model for model in models or () if model not in scored]:
        raise ValueError(f"study.models names {unknown[0]!r}, but the cells have {', '.join(scored)}.")
    return [
        place | record
        for place, result in zip(_places(cells), results, strict=True)
        for record in result.models
        if models is None or record["model"] in models
    ]


def tabulate_pairs(cells: Sequence[Cell], results: Sequence[CellResult], models: Sequence[str] | None) -> list[Record]:
    """One record per cell and pair of models: its grid, its setting on every axis, seed, and the paired difference."""
    return [
        place | dict(pair)
        for place, result in zip(_places(cells), results, strict=True)
        for pair in result.pairs
        if models is None or {pair["model_a"], pair["model_b"]} <= set(models)
    ]


def axes_of(results: Records, grid: str) -> list[str]:
    """The axes of a grid, from the table of results.

    Examples:
        >>> axes_of([{"grid": "rank", "r": "8", "k": None, "seed": 0, "model": "lens", "auc": 0.7}], "rank")
        ['r']
    """
    first = next(record for record in results if record["grid"] == grid)
    return [name for name, setting in first.items() if name not in COLUMNS and setting is not None]


def grids_of(results: Records) -> list[str]:
    """The grids of the table of results, in their order."""
    return list(dict.fromkeys(record["grid"] for record in results))


def seeds_of(results: Records, grid: str) -> list[int]:
    """The seeds of a grid's cells, from the table of results."""
    return sorted({record["seed"] for record in results if record["grid"] == grid})


def summarise(results: Records, grid: str, axes: Sequence[str] | None = None) -> list[Record]:
    """The models' means over the seeds at every place of a grid, place by place.

    Args:
        results: the long table.
        grid: one of its grids.
        axes: those of the grid that tell places apart, None for all; means over the others are taken within each seed.

    Returns:
        Records of place (by axis, the name of its setting), model, seeds (their number), the means of auc, auc_cold,
        gauc, gauc_users, log_loss, validation_auc, train_seconds and ms_per_row, None where a value is missing, and
        auc_low and auc_high: Student's interval of the AUC over the seeds, cut at 0 and 1; None for one seed.
    """
    axes = axes_of(results, grid) if axes is None else axes
    cells: dict[tuple[str, ...], dict[int, list[Mapping[str, Any]]]] = {}
    for record in results:
        if record["grid"] == grid:
            of_seeds = cells.setdefault((record["model"], *(record[axis] for axis in axes)), {})
            of_seeds.setdefault(record["seed"], []).append(record)
    summaries = []
    for (model, *settings), of_seeds in cells.items():
        records = [of_seeds[seed] for seed in sorted(of_seeds)]
        means = {name: [_mean([one[name] for one in of_seed]) for of_seed in records] for name in AVERAGED}
        low, high = None, None
        if len(records) > 1:
            ends = Estimate.from_sample(np.array(means["auc"])).interval(records[0][0]["confidence"])
            low, high = (float(end.clip(0, 1)) for end in ends)
        summaries.append(
            {"place": dict(zip(axes, settings, strict=True)), "model": model, "seeds": len(records)}
            | {name: _mean(values) for name, values in means.items()}
            | {"auc_low": low, "auc_high": high}
        )
    return summaries


def by_model(summaries: Sequence[Record]) -> dict[str, list[Record]]:
    """The summaries of each model."""
    models = dict.fromkeys(summary["model"] for summary in summaries)
    return {model: [summary for summary in summaries if summary["model"] == model] for model in models}


def _places(cells: Sequence[Cell]) -> list[Record]:
    """The columns that say which cell a record is of; None on the axes of other grids."""
    axes = dict.fromkeys(axis for cell in cells for axis in cell.place)
    return [{"grid": cell.grid} | {axis: cell.place.get(axis) for axis in axes} | {"seed": cell.seed} for cell in cells]


def _mean(values: Sequence[Any]) -> float | None:
    return None if None in values else float(np.mean(values))
