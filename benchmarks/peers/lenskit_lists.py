"""Models of LensKit: `python -m peers.lenskit_lists FOLDER MODEL`, see benchmarks/libraries.py."""

import pandas as pd
from lenskit.als import ImplicitMFScorer
from lenskit.batch import recommend
from lenskit.data import from_interactions_df
from lenskit.knn import ItemKNNScorer
from lenskit.pipeline import topn_pipeline
from peers.lists import Fitted, K, main


def item_knn(likes: pd.DataFrame, users: list[int], fitted: Fitted) -> pd.DataFrame:
    """The nearest items by cosine."""
    dataset = from_interactions_df(likes)
    pipeline = topn_pipeline(ItemKNNScorer(feedback="implicit"), n=K)
    pipeline.train(dataset)
    fitted()
    return recommend(pipeline, users, n=K, n_jobs=1).to_df()


def implicit_mf(likes: pd.DataFrame, users: list[int], fitted: Fitted) -> pd.DataFrame:
    """Implicit-feedback matrix factorization."""
    dataset = from_interactions_df(likes)
    pipeline = topn_pipeline(ImplicitMFScorer(), n=K)
    pipeline.train(dataset)
    fitted()
    return recommend(pipeline, users, n=K, n_jobs=1).to_df()


if __name__ == "__main__":
    main({"LensKit item-kNN": item_knn, "LensKit implicit MF": implicit_mf})
