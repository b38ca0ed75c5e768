"""Settings of recommendations."""

import polars as pl
import pytest

from named import PARAMETERS
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RankingConfig, RecommendationConfig

USERS = pl.DataFrame({"user_id": [18]})


def config(**changes):
    return RecommendationConfig.model_validate(PARAMETERS["recommendation"] | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "at least 1 item"),
        ({"sources": ["linear", "linear"]}, "linear"),
        ({"sources": ["linaer"]}, "linear"),
        ({"method": "item_kn"}, "one of validation, popularity, item_knn, linear, fusion, ranker; .* item_knn"),
        ({"shortlist": 3}, "shortlist keeps 3 candidates of each user: `top_n` recommends 10. Raise it"),
        ({"users": []}, "users"),
        ({"order": "lense"}, "candidates.* or .*lens"),
    ],
)
def test_a_mistake_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_all_methods_compete_unless_one_is_named():
    assert config().methods == ("popularity", "item_knn", "linear", "fusion", "ranker")
    assert config(method="ranker").methods == ("ranker",)


@pytest.mark.parametrize(("order", "suffix"), [("candidates", ""), ("lens", "_lens")])
def test_all_methods_are_of_the_one_order_that_is_named(order, suffix):
    assert config().order == "candidates"
    choice = Choice(kind="linear", order=config(order=order).order, sources={})
    assert choice.name == f"linear{suffix}"


@pytest.mark.parametrize("ids", [["POST", "POST2", "85123A", "post"], [15, 105, 2]])
def test_items_are_excluded_by_id_or_by_a_pattern(ids):
    items = pl.DataFrame({"item_id": ids})
    patterns = ["POST* "] if isinstance(ids[0], str) else [" 15", "10?"]
    assert config(exclude_items=patterns).excluded(items).tolist() == [0, 1]
    assert config().excluded(items).tolist() == []


def test_excluded_ids_and_patterns_of_no_item_are_told(caplog):
    items = pl.DataFrame({"item_id": ["POST1", "85123A", "85123B"]})
    config(exclude_items=["85123B", "POST*"]).check_ids(USERS, items)
    assert not caplog.records
    config(exclude_items=["85123B", "POST*", "NOPE", "GIFT*"]).check_ids(USERS, items)
    assert caplog.messages == [
        "2 of 4 ids and patterns of `recommendation.exclude_items` match no item, such as NOPE, so they exclude "
        "nothing: correct them, or leave them out. Ids of the 3 items are written like POST1, 85123A, 85123B."
    ]


@pytest.mark.parametrize("changes", [{"exclude_items": ["1*", "018"]}, {"users": [7, "018"]}])
def test_an_id_that_may_mean_another_is_refused(changes):
    [name] = changes
    with pytest.raises(ValueError, match=rf"{name}: '018': ids of this log are whole numbers: write 18"):
        config(**changes).check_ids(USERS, pl.DataFrame({"item_id": [18]}))


def test_each_cutoff_is_named_once():
    with pytest.raises(ValueError, match="names 10 twice: name each once"):
        RankingConfig.model_validate(PARAMETERS["ranking"] | {"cutoffs": [10, 10]})
