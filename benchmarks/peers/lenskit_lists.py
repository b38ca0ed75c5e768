"""Models of LensKit: `python -m peers.lenskit_lists FOLDER MODEL LIMIT`, see benchmarks/libraries.py."""

import pandas as pd
from lenskit.als import ImplicitMFScorer
from lenskit.batch import recommend
from lenskit.data import from_interactions_df
from lenskit.knn import ItemKNNScorer
from lenskit.pipeline import topn_pipeline
from peers.lists import K, Peer, Recommend, by_recency, main


def item_knn(likes: pd.DataFrame, **settings: float) -> Recommend:
    """The nearest items by cosine."""
    pipeline = topn_pipeline(ItemKNNScorer(feedback="implicit", **settings), n=K)
    pipeline.train(from_interactions_df(likes))
    return lambda users: recommend(pipeline, users, n=K, n_jobs=1).to_df()


def implicit_mf(likes: pd.DataFrame, recency: float = 1.0, **settings: float) -> Recommend:
    """Implicit-feedback matrix factorization, whose training and histories have the weights as ratings."""
    pipeline = topn_pipeline(ImplicitMFScorer(use_ratings=recency < 1, **settings), n=K)
    pipeline.train(from_interactions_df(by_recency(likes, recency).rename(columns={"weight": "rating"})))
    return lambda users: recommend(pipeline, users, n=K, n_jobs=1).to_df()


if __name__ == "__main__":
    main(
        {
            "LensKit item-kNN": Peer(
                item_knn, {"max_nbrs": [5, 10, 20, 50, 100, 200], "min_sim": [1e-6, 0.01, 0.03, 0.1]}
            ),
            "LensKit implicit MF": Peer(
                implicit_mf,
                {"embedding_size": [16, 32, 64, 128], "regularization": [0.01, 0.1, 1], "weight": [10, 40, 160]},
            ),
        }
    )
