"""The order of candidates: as they come or by the lens, whichever ranks likes of the validation split better."""

from typing import Any

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.recommend.config import CandidateOrder, RecommendationConfig
from reclora_kedro.recommend.item_ranks import draw_positives, rank_by, with_lens_reranked
from reclora_kedro.recommend.ranking_metrics import compute_ranking_metrics
from reclora_kedro.rivals import neighbours as item_neighbours
from reclora_kedro.rivals.popularity import Popularity

Records = list[dict[str, Any]]
ORDERS: dict[str, CandidateOrder] = {"neighbours": "candidates", "lens_reranked": "lens"}
"""The order that candidates have where a model ranked likes of the validation split best."""


def compare_orders(
    lens: Lens,
    log: InteractionLog,
    config: RecommendationConfig,
    neighbours: item_neighbours.ItemNeighboursConfig,
    bootstrap: Bootstrap,
) -> Records:
    """How item neighbours, and the lens on their candidates, rank likes of the validation split in the catalogue.

    Returns:
        Records as `compute_ranking_metrics` returns them, at cutoff `config.top_n`; the rival is the better one.

    Raises:
        MismatchError: lens and log stem from different runs.
        ValueError: the likes are of a single user.
    """
    likes = draw_positives(log, "validation", None, config.validation_likes, config.seed)
    if (users := likes["user_index"].n_unique()) < 2:
        raise ValueError(
            f"recommendation.order is 'validation', but {users} user(s) have likes of new items in the validation "
            "split; expected at least 2. Raise recommendation.validation_likes, or name an order."
        )
    scorers = {"neighbours": item_neighbours.scorer(log, neighbours)}
    ranks = rank_by(scorers, log, likes, most=max(config.neighbours, config.top_n), seed=config.seed)
    ranks = with_lens_reranked(ranks, LensReader(lens, log), config.neighbours)
    return compute_ranking_metrics(ranks, list(ORDERS), Popularity(log).information(), (config.top_n,), bootstrap)


def chosen_order(compared: Records, config: RecommendationConfig) -> CandidateOrder:
    """The order of the candidates: the one with the higher NDCG where they were compared, else as named, or the lens's.

    Args:
        compared: see `compare_orders`; empty where likes of the validation split do not choose.
        config: the settings.
    """
    if compared:
        return ORDERS[compared[0]["rival"]]
    return "lens" if config.order == "validation" else config.order
