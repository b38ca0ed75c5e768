"""What the cells of a small study left: four of them, two places by two seeds, with two models."""

from reclora_kedro.study.grid import Cell
from reclora_kedro.study.results import CellRun, Cost

AUC = {("4", "7"): 0.70, ("4", "1"): 0.72, ("16", "7"): 0.74, ("16", "1"): 0.80}


def cell_run(auc, gauc=0.6, revision="abc"):
    record = {
        "rows": 50,
        "positives": 30,
        "users": 9,
        "confidence": 0.95,
        "gauc": gauc,
        "log_loss": 0.6,
        "accuracy": 0.7,
    }
    of = {"lens": 0.75, "reclora": auc}
    metrics = [{"model": m, "auc": a, "auc_low": a - 0.1, "auc_high": a + 0.1} | record for m, a in of.items()]
    pair = {"model_a": "reclora", "model_b": "lens", "auc_difference": auc - 0.75, "low": -1, "high": 1}
    return CellRun(
        metrics=metrics,
        comparisons=[pair | {"p_value": 0.2, "p_adjusted": 0.2}],
        attribution=[{"model": "reclora", "input": "prompt", "fall": 0.03}],
        costs={"lens": Cost(None, 9.0, 1.0, 200), "reclora": Cost(auc - 0.01, 20.0, 4.0, 100)},
        digest=f"{auc}",
        revisions=(revision,),
        nodes=20,
        nodes_run=5,
        seconds=30.0,
    )


CELLS = [Cell("rank", {"r": rank}, int(seed), {}) for rank, seed in AUC]
RUNS = [cell_run(auc) for auc in AUC.values()]
