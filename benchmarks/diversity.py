"""The price of diverse recommendations: accuracy and diversity of lists by the strength of their re-ranking.

    kedro run --pipelines ingestion,history
    python benchmarks/diversity.py --split validation --strengths 0 0.1 0.3 0.5

The linear model finds the best `recommendation.shortlist` items of each like, which `recommendation.diversity` orders
anew.
"""

import argparse
from collections.abc import Mapping

import numpy as np
import polars as pl
from running import open_project

from reclora_kedro.candidates.item_model import Training, choose_settings
from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation.chosen import model_of, validated_configs
from reclora_kedro.recommendation.diversity import diversify
from reclora_kedro.recommendation.item_ranks import rank_likes
from reclora_kedro.recommendation.ranking_metrics import compute_beyond_accuracy
from reclora_kedro.terminal import show, text_table

K = 10
MODELS = ("popularity", "linear")
COLUMNS: Mapping[str, tuple] = {
    f"NDCG@{K}": ("{:.4f}".format, "ndcg"),
    f"HR@{K}": ("{:.4f}".format, "hit_rate"),
    "diversity": ("{:.3f}".format, "diversity"),
    "of fields": ("{:.3f}".format, "field_diversity"),
    "coverage": ("{:.1%}".format, "coverage"),
    "Gini": ("{:.3f}".format, "gini"),
}
BIAS: Mapping[str, tuple] = {
    "likes": ("{:,}".format, "rows"),
    f"HR@{K}": ("{:.3f}".format, "hit_rate"),
    "events per item": ("{:,.0f}".format, "popularity"),
    "tail": ("{:.1%}".format, "tail_share"),
    "diversity": ("{:.3f}".format, "diversity"),
    "serendipity": ("{:.3f}".format, "serendipity"),
}


def diverse_ranks(ranks: pl.DataFrame, log: InteractionLog, strength: float, shortlist: int) -> pl.DataFrame:
    """Return the ranks after each like's shortlist has been ordered anew, with the strength as the model."""
    pairs = ranks.select(user_id="row", item_index="top_items", fallback=pl.lit(False)).explode("item_index")
    diverse = diversify(pairs, log.item_text_vectors(), strength, shortlist)
    lists = diverse.group_by("user_id", maintain_order=True).agg("item_index")["item_index"]
    place = [np.flatnonzero(items.to_numpy() == item) for items, item in zip(lists, ranks["item_index"], strict=True)]
    rank = pl.Series([int(found[0]) + 1 if len(found) else None for found in place], dtype=pl.Int64)
    return ranks.with_columns(rank=rank, top_items=lists, model=pl.lit(f"{strength:g}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="base")
    parser.add_argument("--split", default="validation", choices=["validation", "test"])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0, 0.1, 0.3, 0.5])
    parser.add_argument("--likes", type=int, default=2_000)
    arguments = parser.parse_args()
    project = open_project(arguments.env)
    log, settings = project.load("log"), project.parameters
    likes, training = draw_positives(log, arguments.split, arguments.likes, seed=0), Training.from_split(log)
    teaching = draw_positives(log, "validation", settings["recommendation"].validation_likes, seed=0)
    models = {}
    for name, config in validated_configs(MODELS, settings).items():
        fitted = model_of(name).fit(training, choose_settings(model_of(name), training, config, teaching))
        models[name] = fitted.as_of_each_moment(training)
    shortlist = settings["recommendation"].shortlist
    ranks = rank_likes(models, training.moments(likes), likes, shortlist)
    linear = ranks.filter(model="linear")
    diverse = [diverse_ranks(linear, log, strength, shortlist) for strength in arguments.strengths]
    records = compute_beyond_accuracy(pl.concat([ranks, *diverse]), log, [K], settings["bootstrap"])
    title = f"The first {K} of {shortlist} items for {likes.height:,} {arguments.split} likes"
    whole = [record for record in records if record["segment"] == ALL]
    show(text_table(title, whole, {"strength": (str, "model")}, COLUMNS))
    by_activity = [record for record in records if record["model"] in MODELS and record["by"] != EVENT_BEFORE]
    texts = {"model": (str, "model"), "user's events before": (str, "segment")}
    show(text_table("Popularity bias by users' activity", by_activity, texts, BIAS))


if __name__ == "__main__":
    main()
