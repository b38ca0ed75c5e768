"""What is chosen on made-up logs of 400 to 5,000 events, beside popularity on test likes."""

import numpy as np
import polars as pl
import pytest

from reclora_kedro import Recommender
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.defaults import default_parameters
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.recommendation.config import RankingConfig
from reclora_kedro.recommendation.item_ranks import rank_test_likes
from reclora_kedro.recommendation.list_metrics import Catalogue
from reclora_kedro.recommendation.ranking_metrics import compute_ranking_metrics

ITEMS, EVENTS = 80, 12
RANKING = default_parameters(("ranking",))["ranking"] | {"variant": None, "lens": False, "rows": None, "cutoffs": (10,)}


def made_up(users, seed, taste):
    """Events of users who take new items by popularity and, `taste` times as often, those of their quarter."""
    random, rows = np.random.default_rng(seed), []
    popularity, quarter = 1 / np.arange(1, ITEMS + 1) ** 0.8, random.integers(0, 4, ITEMS)
    for user in range(users):
        odds = popularity * np.where(quarter == user % 4, taste, 1.0)
        seconds = 1_400_000_000 + random.integers(0, 30_000_000) + np.sort(random.integers(0, 2_000_000, EVENTS))
        taken = random.choice(ITEMS, EVENTS, replace=False, p=odds / odds.sum())
        rows += zip([user] * EVENTS, taken.tolist(), seconds.tolist(), strict=True)
    return pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")


def less_popularity(log):
    """Return the NDCG@10 of the chosen method less that of popularity on test likes, and the p-value; None if equal."""
    fitted = Recommender.fit(log, encoders=["tfidf"])
    training = Training.from_split(fitted.log)
    recommender = Recommender.from_choice(training, fitted.choice, fitted.config).as_measured(training)
    ranks = rank_test_likes(recommender, RankingConfig.model_validate(RANKING), None)
    bootstrap, catalogue = Bootstrap(confidence=0.95, seed=0), Catalogue.from_log(fitted.log)
    records = compute_ranking_metrics(ranks, ["popularity"], catalogue, (10,), bootstrap)
    record = next(record for record in records if record["model"] == fitted.choice.name)
    return record["ndcg_difference"] or 0.0, record["p_value"]


@pytest.mark.parametrize(("users", "taste"), [(34, 1.0), (34, 9.0), (150, 1.0), (150, 9.0), (416, 1.0), (416, 9.0)])
def test_the_choice_is_not_significantly_worse_than_popularity(users, taste):
    compared = [less_popularity(made_up(users, seed, taste)) for seed in range(2)]
    assert not [difference for difference, p_value in compared if difference < 0 and p_value < 0.05]
    if users > 34 and taste > 1:
        assert all(difference > 0 and p_value < 0.05 for difference, p_value in compared)
