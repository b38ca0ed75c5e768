"""The Recommender by its front door: `python -m peers.ours_lists FOLDER MODEL LIMIT`, see benchmarks/libraries.py."""

import sys
from pathlib import Path

import pandas as pd
from peers.lists import K, Peer, Recommend, main

from reclora_kedro import Recommender

ITEMS = Path(sys.argv[1]) / "items.parquet"


def with_titles(likes: pd.DataFrame) -> Recommend:
    """All defaults."""
    recommender = Recommender.fit(likes[["user_id", "item_id"]], pd.read_parquet(ITEMS))
    return lambda users: recommender.recommend(users, n=K).to_pandas()


def ids_alone(likes: pd.DataFrame) -> Recommend:
    """All defaults, without titles."""
    recommender = Recommender.fit(likes[["user_id", "item_id"]])
    return lambda users: recommender.recommend(users, n=K).to_pandas()


if __name__ == "__main__":
    main({"Recommender.fit": Peer(with_titles), "Recommender.fit, ids alone": Peer(ids_alone)})
