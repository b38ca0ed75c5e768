"""Lists of ten by other libraries and by this one: one split, one set of candidates, one evaluator.

    make bench-peers
    python benchmarks/libraries.py --logs movielens-100k --libraries ours implicit
    python benchmarks/libraries.py --frozen

Each user's last like tests, of the users with at least five; all other likes are known, and nothing else is: no
ratings, and no times but the order of likes, in which ties are broken by chance. With `--frozen`, the last tenth of the
likes tests instead, of the users with at least five likes before: each has one list for all of them, as in a file that
is made once. Candidates are all items that the user has not taken. Each library has an environment of its own,
`.venv-peers/NAME`. Its models stand at their default settings and, where one fit takes seconds, at the best of some
dozens by each user's last known like, without and with recency: histories whose likes weigh decay^k, k likes before the
last one, where the model reads weights. A training or a search ends after ten CPU minutes (`--limit`). Every model has
a process of its own, one thread, and as many run at once as there are cores. Tables are kept after every log. LensKit
needs Python 3.13 on the PATH.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from lifelong import LOGS, read_tables
from results import publish
from running import BENCHMARKS, Project, environment, open_project

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.figures import empty_figure
from reclora_kedro.evaluation.records import Records
from reclora_kedro.recommendation.list_metrics import Catalogue
from reclora_kedro.recommendation.ranking_metrics import compute_ranking_metrics

K, LEAST_LIKES, FROZEN_SHARE = 10, 5, 0.1
Table = list[dict[str, Any]]
OURS = ("Recommender.fit", "Recommender.fit, ids alone")
LIBRARIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # requirements and models
    "ours": ((), OURS),
    "implicit": (
        ("implicit==0.7.3", "pandas"),
        tuple(f"implicit {model}{how}" for model in ("BM25", "ALS") for how in ("", ", searched", ", by recency")),
    ),
    "lenskit": (
        ("lenskit==2026.4.0",),
        (
            *("LensKit item-kNN", "LensKit item-kNN, searched"),  # whose histories have no weights
            *("LensKit implicit MF", "LensKit implicit MF, searched", "LensKit implicit MF, by recency"),
        ),
    ),
    "rectools": (
        ("rectools[torch,catboost]==0.19.0",),
        (
            *("RecTools EASE", "RecTools EASE, searched", "RecTools EASE, by recency"),
            *("RecTools two-stage", "RecTools SASRec", "RecTools eSASRec"),
        ),
    ),
    # Its releases read what newer NumPy, SciPy and pandas have removed.
    "recbole": (
        ("recbole==1.2.1", "numpy<2", "scipy<1.13", "pandas<2.3", "setuptools<81"),
        ("RecBole SASRec", "RecBole LightGCN", "RecBole RecVAE"),
    ),
}
PYTHONS = {"lenskit": "3.13"}  # of what does not run on this one


def split_likes(project: Project, folder: Path, is_frozen: bool) -> pl.DataFrame:
    """Write the known likes, the items and the test users of a log; return the likes that test.

    Ids are numbers from 0, in the order of the log's own. Likes of the second in which the last tenth begins test, too.
    """
    tables = read_tables(project)
    likes = tables.interactions.filter(label=1).select("user_id", "item_id", "timestamp")
    drawn = pl.Series(np.random.default_rng(0).random(likes.height))
    ordered = likes.with_columns(drawn=drawn).sort("timestamp", "drawn")
    ordered = ordered.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    coded = ordered.select(
        *((pl.col(key).rank("dense") - 1).cast(pl.Int64) for key in ("user_id", "item_id")),
        timestamp=1_000_000_000 + pl.int_range(pl.len()),
    )
    of_user = pl.len().over("user_id")
    if is_frozen:
        begin = ordered["timestamp"][int((1 - FROZEN_SHARE) * ordered.height)]
        later = ordered["timestamp"] >= begin
        known = coded.filter(~later)
        often = known.filter(of_user >= LEAST_LIKES)
        test = coded.filter(later).join(often, on="user_id", how="semi", maintain_order="left")
    else:
        last = (pl.col("timestamp") == pl.col("timestamp").max().over("user_id")) & (of_user >= LEAST_LIKES)
        test, known = coded.filter(last), coded.filter(~last)
    test = test.join(known.select("item_id").unique(), on="item_id", how="semi", maintain_order="left")
    known.select("user_id", "item_id", "timestamp").write_csv(folder / "train.csv")
    test.select(pl.col("user_id").unique(maintain_order=True)).write_csv(folder / "users.csv")
    taken = tables.items.filter(pl.col("item_id").is_in(ordered["item_id"].implode()))
    taken.with_columns((pl.col("item_id").rank("dense") - 1).cast(pl.Int64)).write_parquet(folder / "items.parquet")
    return test


def run_model(python: Path, library: str, folder: Path, model: str, limit: int) -> dict[str, Any]:
    """Let a process write a model's lists, and return what it cost."""
    command = [str(python), "-m", f"peers.{library}_lists", str(folder), model, str(limit)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(BENCHMARKS)}
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment)
    costs: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return costs


def last_line(error: subprocess.CalledProcessError) -> str:
    """Return the line of a failed process that says what is wrong."""
    text = error.stderr.decode() if isinstance(error.stderr, bytes) else error.stderr or ""
    lines = [line.strip() for line in text.splitlines() if "rror:" in line]
    return (lines or [str(error)])[0][:200]


def lists_of(folder: Path, model: str, test: pl.DataFrame) -> pl.DataFrame:
    """Return the ranks of a model's lists, as `rank_likes` has them.

    Some libraries fill short lists with -1, with items that the user has taken, or repeat one: these places count for
    nothing.
    """
    lists, known = (
        pl.read_csv(folder / f"{model}.csv").filter(pl.col("item_id") >= 0),
        pl.read_csv(folder / "train.csv"),
    )
    lists = lists.join(known, on=["user_id", "item_id"], how="anti", maintain_order="left")
    lists = lists.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    lists = lists.group_by("user_id", maintain_order=True).agg(top_items="item_id")
    ranks = test.join(lists, on="user_id", how="left", maintain_order="left").with_row_index("row")
    rank = [
        items.to_list().index(item) + 1 if items is not None and item in items else None
        for items, item in zip(ranks["top_items"], ranks["item_id"], strict=True)
    ]
    return ranks.select(
        pl.lit(model).alias("model"), "row", pl.col("user_id").alias("user_index"), pl.Series("rank", rank, pl.Int64),
        candidates=pl.lit(0), top_items=pl.col("top_items").fill_null([0]),  # an empty list finds nothing
    )  # fmt: skip


def measure(name: str, arguments: argparse.Namespace, bootstrap: Bootstrap) -> tuple[Table, Table]:
    """Return a record per model, the best NDCG first, and the errors of what could not be run."""
    costs, ranks, failed = dict[str, dict[str, Any]](), list[pl.DataFrame](), Table()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        test = split_likes(open_project(LOGS[name]), folder, arguments.frozen)
        jobs = list[tuple[Path, str, str]]()
        for library in arguments.libraries:
            requirements, known = LIBRARIES[library]
            models = [model for model in known if model in (arguments.models or known)]
            try:
                base = PYTHONS.get(library, sys.executable)
                python = environment(library, *requirements, python=base) if requirements else Path(base)
            except subprocess.CalledProcessError as error:
                failed.append({"log": name, "model": library, "error": last_line(error)})
                continue
            jobs += [(python, library, model) for model in models]

        def run_job(job: tuple[Path, str, str]) -> tuple[dict[str, Any], pl.DataFrame] | subprocess.CalledProcessError:
            python, library, model = job
            try:
                cost = run_model(python, library, folder, model, arguments.limit)
            except subprocess.CalledProcessError as error:
                return error
            print(name, model, cost, flush=True)
            return cost, lists_of(folder, model, test)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for (_, _, model), result in zip(jobs, pool.map(run_job, jobs), strict=True):
                if isinstance(result, subprocess.CalledProcessError):
                    failed.append({"log": name, "model": model, "error": last_line(result)})
                else:
                    costs[model], own = result
                    ranks.append(own)
        items = pl.read_parquet(folder / "items.parquet")
        catalogue = Catalogue(items, np.zeros(items.height, dtype=np.int64))
    records = compute_ranking_metrics(pl.concat(ranks), [ranks[0]["model"][0]], catalogue, (K,), bootstrap)
    table = [
        {
            "log": name,
            "model": record["model"],
            f"HR@{K}": record["hit_rate"],
            f"NDCG@{K}": record["ndcg"],
            "low": record["ndcg_low"],
            "high": record["ndcg_high"],
            "less ours": record["ndcg_difference"],
            "its low": record["ndcg_difference_low"],
            "its high": record["ndcg_difference_high"],
            "p": record["p_adjusted"],
            "users": record["users"],
            "likes": record["rows"],
        }
        | costs[record["model"]]
        for record in records
    ]
    return sorted(table, key=lambda record: -record[f"NDCG@{K}"]), failed


def draw(records: Records) -> go.Figure:
    """NDCG against the CPU seconds to fit, a colour per log."""
    figure = empty_figure()
    for name in dict.fromkeys(record["log"] for record in records):
        own = [record for record in records if record["log"] == name]
        figure.add_scatter(
            x=[record["CPU seconds to fit"] for record in own], y=[record[f"NDCG@{K}"] for record in own],
            text=[record["model"] for record in own], mode="markers+text", textposition="top center", name=name,
        )  # fmt: skip
    figure.update_xaxes(title_text="CPU seconds to fit", type="log").update_yaxes(title_text=f"NDCG@{K}")
    return figure


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=list(LOGS))
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--models", nargs="+", help="some of their models")
    parser.add_argument("--frozen", action="store_true", help="one list per user, for the last tenth of the likes")
    parser.add_argument("--limit", type=int, default=600, help="CPU seconds of a neural model's training")
    arguments = parser.parse_args()
    bootstrap = Bootstrap(confidence=0.95, seed=42)
    records, failed = Table(), Table()
    for name in arguments.logs:
        table, errors = measure(name, arguments, bootstrap)
        records += table
        failed += errors
        not_run = {"Not run": failed} if failed else {}
        kept_as = "libraries_frozen" if arguments.frozen else "libraries"
        publish(kept_as, {"Lists": records, **not_run}, draw(records), digits=4)


if __name__ == "__main__":
    main()
