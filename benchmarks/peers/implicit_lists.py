"""Models of implicit: `python -m peers.implicit_lists FOLDER MODEL LIMIT`, see benchmarks/libraries.py."""

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender
from peers.lists import K, Peer, Recommend, by_recency, main
from scipy.sparse import csr_matrix


def bm25(likes: pd.DataFrame, recency: float = 1.0, **settings: float) -> Recommend:
    """The nearest items by BM25."""
    taken = csr_matrix((np.ones(len(likes), dtype=np.float32), (likes["user_id"], likes["item_id"])))
    model = BM25Recommender(**settings)
    model.fit(taken, show_progress=False)
    weighted = csr_matrix((by_recency(likes, recency)["weight"], (likes["user_id"], likes["item_id"])))

    def recommend(users: list[int]) -> pd.DataFrame:
        items, _ = model.recommend(users, weighted[users], N=K)
        return pd.DataFrame({"user_id": np.repeat(users, K), "item_id": items.ravel()})

    return recommend


def als(likes: pd.DataFrame, recency: float = 1.0, **settings: float) -> Recommend:
    """Matrix factorization by alternating least squares; weighted histories are folded in."""
    taken = csr_matrix((np.ones(len(likes), dtype=np.float32), (likes["user_id"], likes["item_id"])))
    model = AlternatingLeastSquares(random_state=42, **settings)
    model.fit(taken, show_progress=False)
    weighted = csr_matrix(
        (by_recency(likes, recency)["weight"].astype(np.float32), (likes["user_id"], likes["item_id"]))
    )

    def recommend(users: list[int]) -> pd.DataFrame:
        items, _ = model.recommend(users, weighted[users], N=K, recalculate_user=recency < 1)
        return pd.DataFrame({"user_id": np.repeat(users, K), "item_id": items.ravel()})

    return recommend


if __name__ == "__main__":
    main(
        {
            "implicit BM25": Peer(
                bm25, {"K": [20, 50, 100, 200, 400, 800], "K1": [1.2, 10, 100, 1000], "B": [0.2, 0.8]}
            ),
            "implicit ALS": Peer(
                als, {"factors": [32, 64, 128, 256], "regularization": [0.01, 0.1, 1], "alpha": [1, 5, 20]}
            ),
        }
    )
