"""Metrics of lists beyond accuracy: concentration, novelty, diversity, popularity bias and serendipity, by segment."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.records import Record
from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE, HISTORY_EDGES, Segmentation, in_bands
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.recommendation.list_metrics import (
    BEYOND_ACCURACY,
    HIT_RATE,
    NDCG,
    NOVELTY,
    Catalogue,
    RankedLists,
    gini,
)

ACCURACY = ("hit_rate", "ndcg")
OF_LISTS = (HIT_RATE, NDCG, NOVELTY, *BEYOND_ACCURACY)


def compute_beyond_accuracy(
    item_ranks: pl.DataFrame, log: InteractionLog, cutoffs: Sequence[int], bootstrap: Bootstrap
) -> list[Record]:
    """Return the metrics of every model's lists at every cutoff, for all rows and for each segment of `segment_likes`.

    Args:
        item_ranks: see `rank_likes`; the popular items that serendipity compares with are those of the model
            `popularity`, without which it is undefined.

    Returns:
        Records of model, k, by and segment, rows, users, the means over rows of hit_rate, ndcg, novelty and the metrics
        of `BEYOND_ACCURACY`, None if undefined; the ends `…_low` and `…_high` over users of the first two; coverage
        (share of the catalogue in any list of the segment) and gini (see `gini`).
    """
    catalogue = Catalogue.from_log(log)
    popular, likes = item_ranks.filter(model="popularity"), item_ranks.filter(model=item_ranks["model"][0])
    lists, values = {}, {}
    for (model,), ranks in item_ranks.group_by("model", maintain_order=True):
        for k in cutoffs:
            own = lists[model, k] = RankedLists.from_ranks(ranks, k, catalogue, popular if popular.height else None)
            means = {metric.name: np.asarray(per_row(own), float) for metric in OF_LISTS if (per_row := metric.per_row)}
            values[model, k] = pl.DataFrame({"user_index": ranks["user_index"], **means})
    records = []
    for by, names, places in segment_likes(likes, log):
        for place in np.unique(places):
            chosen = places == place
            parts = [rows.filter(chosen) for rows in values.values()]
            intervals = _accuracy_intervals(parts, bootstrap)
            for (model, k), part, ends in zip(values, parts, intervals, strict=True):
                record = {"model": model, "k": k, "by": by, "segment": names[place], "rows": part.height}
                record |= {"users": part["user_index"].n_unique()}
                record |= part.drop("user_index").select(pl.all().fill_nan(None).mean()).row(0, named=True) | ends
                counts = lists[model, k].items[chosen].sum(axis=0)
                records.append(record | {"coverage": (counts > 0).mean().item(), "gini": gini(counts)})
    return records


def segment_likes(item_ranks: pl.DataFrame, log: InteractionLog) -> Iterator[Segmentation]:
    """Segment one model's likes: all; by the number of the user's events before; and by the time of the last of these.

    A like of the same time as the user's event before it completes a basket; a later one is the next purchase. Without
    the former, there is no segmentation by time.
    """
    offsets = np.asarray(log.sequences.offsets)[item_ranks["user_index"]]
    end = item_ranks["history_end"].to_numpy()
    yield Segmentation("users", [ALL], np.zeros(len(end), dtype=int))
    yield in_bands("events of the user before the like", end - offsets, np.array(HISTORY_EDGES))
    last = np.asarray(log.sequences.timestamp)[np.maximum(end - 1, 0)]
    is_same = (end > offsets) & (last == item_ranks["timestamp"].to_numpy())
    if is_same.any():
        yield Segmentation(EVENT_BEFORE, ["of the same time", "earlier, or none"], (~is_same).astype(int))


def _accuracy_intervals(lists: Sequence[pl.DataFrame], bootstrap: Bootstrap) -> list[dict[str, float | None]]:
    """Return the ends of the intervals of `ACCURACY` over users, cut at 0 and 1, per list; None for one user."""
    names = [f"{name}_{end}" for end in ("low", "high") for name in ACCURACY]
    users = [rows.group_by("user_index").agg(pl.len(), pl.col(ACCURACY).mean()).sort("user_index") for rows in lists]
    if users[0].height < 2:
        return [dict.fromkeys(names)] * len(lists)
    values = np.concatenate([of.select(ACCURACY).to_numpy() for of in users], axis=1)
    means = bootstrap.means(values, users[0]["len"].to_numpy().astype(np.float64))
    low, high = (end.clip(0, 1).reshape(len(lists), -1) for end in means.interval(bootstrap.confidence))
    return [dict(zip(names, ends, strict=True)) for ends in np.concatenate([low, high], axis=1).tolist()]
