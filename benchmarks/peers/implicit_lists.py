"""Models of implicit: `python -m peers.implicit_lists FOLDER MODEL`, see benchmarks/libraries.py."""

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender
from peers.lists import Fitted, K, main
from scipy.sparse import csr_matrix


def bm25(likes: pd.DataFrame, users: list[int], fitted: Fitted) -> pd.DataFrame:
    """The nearest items by BM25."""
    taken = csr_matrix((np.ones(len(likes), dtype=np.float32), (likes["user_id"], likes["item_id"])))
    model = BM25Recommender()
    model.fit(taken, show_progress=False)
    fitted()
    items, _ = model.recommend(users, taken[users], N=K)
    return pd.DataFrame({"user_id": np.repeat(users, K), "item_id": items.ravel()})


def als(likes: pd.DataFrame, users: list[int], fitted: Fitted) -> pd.DataFrame:
    """Matrix factorization by alternating least squares."""
    taken = csr_matrix((np.ones(len(likes), dtype=np.float32), (likes["user_id"], likes["item_id"])))
    model = AlternatingLeastSquares(random_state=42)
    model.fit(taken, show_progress=False)
    fitted()
    items, _ = model.recommend(users, taken[users], N=K)
    return pd.DataFrame({"user_id": np.repeat(users, K), "item_id": items.ravel()})


if __name__ == "__main__":
    main({"implicit BM25": bm25, "implicit ALS": als})
