"""The linear model of a large catalogue: EASE in closed form, by blocks of items, and item-kNN beside them.

    kedro run --env amazon-beauty --to-outputs log_without_embeddings
    python benchmarks/linear_forms.py amazon-beauty 30000
    python benchmarks/linear_forms.py 59047 rows:25000095 --forms blocks --text-weights 0

Each argument is an environment, whose stored log is read, a number of items of the made-up log of
`large_catalogue.py`, or a number of rows of the log of `synthetic_log.py`. Recall is the share of the ten best items of
the closed form that another form lists, at the moments of test likes. Each form runs in a process of its own, of one
thread; its peak of memory is that of the fit, with the log.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from large_catalogue import made_up_log
from measuring import peak_gib, reset_peak
from results import publish
from running import open_project, run
from synthetic_log import history_settings, make_log
from threadpoolctl import threadpool_limits

from reclora_kedro.candidates.item_knn import ItemKnn, ItemKnnSettings
from reclora_kedro.candidates.item_model import ItemModel, Training
from reclora_kedro.candidates.linear import Linear, LinearSettings
from reclora_kedro.candidates.moments import best_items, ranks_of
from reclora_kedro.evaluation.metrics import ndcg
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.taken_items import draw_positives

FORMS = ("closed", "blocks", "item_knn")
TEXT_WEIGHTS = (0.0, 0.8)
REGULARIZATION, RECENCY = 100.0, 0.9
K = 10


def load(name: str, users: int) -> InteractionLog:
    if name.startswith("rows:"):
        log = synthetic(int(name.removeprefix("rows:")))
    else:
        log = (
            made_up_log(int(name), users, 2) if name.isdecimal() else open_project(name).load("log_without_embeddings")
        )
    assert isinstance(log, InteractionLog)
    return log


def synthetic(rows: int) -> Any:
    interactions = make_log(rows).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8)).sort("timestamp")
    ids = interactions["item_id"].unique().sort()
    items = pl.DataFrame({"item_id": ids}).with_columns(title=pl.format("Title {}", "item_id"), genres=pl.lit("Drama"))
    return build_log(interactions, items, interactions.select(pl.col("user_id").unique().sort()), history_settings())


def fitted(form: str, text_weight: float, training: Training) -> ItemModel:
    if form == "item_knn":
        return ItemKnn.fit(training, ItemKnnSettings())
    settings = LinearSettings(regularization=REGULARIZATION, recency=RECENCY, text_weight=text_weight)
    most = training.items if form == "closed" else 0
    return Linear.fit(training, settings.model_copy(update={"max_items": most}))


def measure(name: str, form: str, text_weight: float, users: int, rows: int, lists: Path) -> dict[str, Any]:
    """Fit a form, store its lists at the moments of test likes, and return what it costs and finds."""
    torch.set_num_threads(1)
    training = Training.from_split(load(name, users))
    likes = draw_positives(training.log, "test", rows, 0)
    moments, target = training.moments(likes), likes["item_index"].to_numpy()
    assert training.user_items.nnz  # is made before the fit
    reset_peak()
    start = time.process_time()
    model = fitted(form, text_weight, training)
    seconds, gib = time.process_time() - start, peak_gib()
    start, found, gains = time.process_time(), list[np.ndarray](), list[np.ndarray]()
    for of_block, block in moments.blocks():
        scores = model.scores(block)
        found.append(best_items(scores, block, K).items)
        gains.append(ndcg(ranks_of(scores, block, target[of_block]), K))
    milliseconds = 1e3 * (time.process_time() - start) / max(1, len(target))
    np.save(lists, np.concatenate(found))
    return {
        "items": training.items,
        "events": int(training.user_items.nnz),
        "NDCG@10": float(np.concatenate(gains).mean()),
        "fit, CPU s": seconds,
        "peak GiB": gib,
        "CPU ms per moment": milliseconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", nargs="+", help="environments, or numbers of items of made-up logs")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--text-weights", nargs="+", type=float, default=TEXT_WEIGHTS)
    parser.add_argument("--users", type=int, default=30_000, help="users of a made-up log")
    parser.add_argument("--likes", type=int, default=2000)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a form and a file for its lists
    arguments = parser.parse_args()
    if arguments.one:
        [name], [text_weight], (form, lists) = arguments.logs, arguments.text_weights, arguments.one
        with threadpool_limits(1):
            result = measure(name, form, text_weight, arguments.users, arguments.likes, Path(lists))
        print(json.dumps(result))
        return
    rows = list[dict[str, Any]]()
    shared = ["--users", str(arguments.users), "--likes", str(arguments.likes)]
    with TemporaryDirectory() as folder:
        for name in arguments.logs:
            for weight in arguments.text_weights:
                exact = None
                for form in arguments.forms:
                    if form == "item_knn" and weight:
                        continue
                    lists, of_log = Path(folder) / "lists.npy", [name, "--text-weights", str(weight), *shared]
                    made = run([sys.executable, __file__, *of_log, "--one", form, str(lists)], threads=1)
                    found = np.load(lists)
                    exact = found if form == "closed" else exact
                    recall = None
                    if exact is not None:
                        recall = float(np.mean([np.isin(*pair).mean() for pair in zip(exact, found, strict=True)]))
                    rows.append({"log": name, "text weight": weight, "form": form, "recall@10": recall} | made)
                    print(rows[-1], flush=True)
    names = [f"{row['log']}, {row['form']}, {row['text weight']}" for row in rows]
    figure = go.Figure(go.Bar(x=[row["fit, CPU s"] for row in rows], y=names, orientation="h"))
    publish("linear_forms", {"EASE in closed form, by blocks, and item-kNN": rows}, figure, digits=4)


if __name__ == "__main__":
    main()
