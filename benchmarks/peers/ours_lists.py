"""The Recommender by its front door: `python -m peers.ours_lists FOLDER MODEL`, see benchmarks/libraries.py."""

import sys
from pathlib import Path

import pandas as pd
from peers.lists import Fitted, K, main

from reclora_kedro import Recommender

ITEMS = Path(sys.argv[1]) / "items.parquet"


def with_titles(likes: pd.DataFrame, users: list[int], fitted: Fitted) -> pd.DataFrame:
    """All defaults."""
    recommender = Recommender.fit(likes[["user_id", "item_id"]], pd.read_parquet(ITEMS))
    fitted()
    return recommender.recommend(users, n=K).to_pandas()


def ids_alone(likes: pd.DataFrame, users: list[int], fitted: Fitted) -> pd.DataFrame:
    """All defaults, without titles."""
    recommender = Recommender.fit(likes[["user_id", "item_id"]])
    fitted()
    return recommender.recommend(users, n=K).to_pandas()


if __name__ == "__main__":
    main({"Recommender.fit": with_titles, "Recommender.fit, ids alone": ids_alone})
