import numpy as np
import polars as pl
import pytest

from reclora_kedro.history.retrieval import unit_vectors
from reclora_kedro.recommendation import diversity
from reclora_kedro.recommendation.diversity import diversify

VECTORS = unit_vectors(np.random.default_rng(0).normal(size=(12, 3)))


def reference(items, strength, limit):
    """Maximal marginal relevance of one list, by loops."""
    chosen, left = [], list(range(len(items)))
    while left and len(chosen) < limit:

        def gain(place):
            near = max((VECTORS[items[place]] @ VECTORS[items[other]] for other in chosen), default=0)
            return (1 - strength) / np.log2(place + 2) - strength * near

        best = max(left, key=gain)
        chosen.append(best)
        left.remove(best)
    return [items[place] for place in chosen]


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.9])
def test_lists_of_all_lengths_are_reranked_as_by_loops(monkeypatch, strength):
    monkeypatch.setattr(diversity, "VALUES_AT_ONCE", 60)  # two users at once
    random = np.random.default_rng(1)
    lengths = {"d": 9, "a": 1, "c": 6, "b": 3, "e": 9}
    lists = {user: random.permutation(12)[:length].tolist() for user, length in lengths.items()}
    pairs = pl.DataFrame(
        [(user, item, user == "e") for user, items in lists.items() for item in items],
        schema=["user_id", "item_index", "fallback"],
        orient="row",
    )
    diverse = diversify(pairs, VECTORS, strength, limit=5)
    expected = {user: reference(items, 0 if user == "e" else strength, 5) for user, items in lists.items()}
    assert diverse.group_by("user_id", maintain_order=True).agg("item_index").rows() == list(expected.items())
