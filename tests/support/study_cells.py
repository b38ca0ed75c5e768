"""What the cells of a small study left: four of them, two places by two seeds, with two models."""

from types import SimpleNamespace

import polars as pl

from reclora_kedro.study.config import OUTPUTS
from reclora_kedro.study.grid import Cell
from reclora_kedro.study.results import cell_result

AUC = {("4", "7"): 0.70, ("4", "1"): 0.72, ("16", "7"): 0.74, ("16", "1"): 0.80}
SECONDS = {"lens_training_log": 9.0, "lens_scores": 1.0, "reclora.training_log": 20.0, "reclora.scores": 4.0}
GAUC = {"gauc": 0.6, "gauc_low": 0.5, "gauc_high": 0.7, "gauc_users": 25}
WITH_GATES = SimpleNamespace(method="reclora", num_meta_loras=8)
MEASURED = {"rows": 50, "positives": 30, "users": 29, **GAUC, "log_loss": 0.6, "accuracy": 0.7}


def finished(key, outputs, left):
    """The result of a cell with this key that was run for some outputs and left these; nodes took `SECONDS`."""

    def load(name):
        return 0.95 if name == "params:bootstrap.confidence" else left[name]

    def stored(name):
        return SimpleNamespace(seconds=SECONDS.get(name, 0.5), revision="abc", recipe=SimpleNamespace(key=key))

    together = [["lens_scores"], ["reclora.scores", "reclora.permuted_scores"], ["lens_metrics"]]
    flow = SimpleNamespace(all_outputs=left.keys, nodes=[SimpleNamespace(outputs=names) for names in together])
    catalog = SimpleNamespace(load=load, stored=stored)
    return cell_result(SimpleNamespace(outputs=outputs, flow=flow, catalog=catalog))


def cell_run(auc, gauc=0.6):
    """The result of a cell whose reclora has this AUC."""
    of = {"lens": 0.75, "reclora": auc}
    measured = MEASURED | {"gauc": gauc}
    pair = {"model_a": "reclora", "model_b": "lens", "auc_difference": auc - 0.75, "low": -1, "high": 1}
    of_rows = pl.DataFrame({"row": range(50)})
    left = {
        "metrics": [{"model": m, "auc": a, "auc_low": a - 0.1, "auc_high": a + 0.1} | measured for m, a in of.items()],
        "comparisons": [pair | {"p_value": 0.2, "p_adjusted": 0.2}],
        "attribution": [{"model": "reclora", "input": "prompt", "fall": 0.03}],
        "lens_training_log": pl.DataFrame({"validation_auc": [None, None]}, schema={"validation_auc": pl.Float64}),
        "reclora.training_log": pl.DataFrame({"validation_auc": [None, auc - 0.02, auc - 0.01]}),
        "lens_scores": pl.DataFrame({"row": range(200)}),
        "params:finetuning.variants.reclora": SimpleNamespace(adapter=WITH_GATES),
        "reclora.scores": of_rows,
        "reclora.permuted_scores": pl.DataFrame({"input": ["prompt", "gate inputs"]}).join(of_rows, how="cross"),
    }
    return finished(f"{auc}", OUTPUTS["metrics"], left)


def lens_run(auc):
    """The result of a cell that ends at its lens, with this AUC."""
    metrics = [{"model": "lens", "auc": auc, "weights": 99} | MEASURED]
    left = {"lens_metrics": metrics, "lens_training_log": pl.DataFrame({"validation_auc": [auc - 0.01]})}
    return finished(f"lens {auc}", OUTPUTS["lens"], left)


CELLS = [Cell("rank", {"r": rank}, int(seed), {}) for rank, seed in AUC]
RUNS = [cell_run(auc) for auc in AUC.values()]
