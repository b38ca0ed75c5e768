"""AUC of each model on segments of the test rows."""

from typing import NamedTuple, cast

import numpy as np
import polars as pl

from reclora_kedro.evaluation.bootstrap import Integers
from reclora_kedro.evaluation.records import SegmentAuc
from reclora_kedro.evaluation.scores import PairedScores, join_all

ALL = "all"  # the segment of all rows
EVENT_BEFORE = "the user's event before the like"  # by whose time likes are segmented
LEAST_ROWS = 10  # per segment; the AUC of fewer is noise
HISTORY_EDGES = (10, 50, 200)  # longest history of each band but the last
ROWS_FOR_TENTHS = 5_000  # test rows from which on item popularity is in tenths, not fifths


class Segmentation(NamedTuple):
    """A partition of the test rows; `segments` has the index in `names` of each row, shape (rows,)."""

    by: str
    names: list[str]
    segments: Integers


def segment_rows(
    paired: PairedScores, samples: pl.DataFrame, offsets: Integers, event_items: Integers
) -> list[Segmentation]:
    """Segment the test rows by cold items, new users, history length and item popularity in the training split.

    `offsets` are the starts of the users' events, shape (users + 1,), and `event_items` their items, shape (events,).
    MismatchError is raised for a scored row that is no sample of the log, or of another user.
    """
    scored = pl.DataFrame({"row": paired.rows, "user_index": paired.users})
    scored = scored.cast({name: samples.schema[name] for name in scored.columns})
    of_log = samples.select("row", "user_index", "item_index", "history_end")
    refusal = "{} rows in scores are no samples of the log with their users {}: they stem from different runs."
    rows = join_all(scored, of_log, ["row", "user_index"], refusal, "scores")
    training = samples.filter(pl.col("split") == "train")
    users, items = rows["user_index"].to_numpy(), rows["item_index"].to_numpy()
    # Drawn negatives share their positive's event, whose item alone was taken; an impression without a click has none.
    events = training["event"].drop_nulls().unique().to_numpy()
    trained = np.bincount(event_items[events], minlength=items.max() + 1)[items]
    has_training_rows = np.isin(users, training["user_index"].unique().to_numpy())
    lengths = rows["history_end"].to_numpy() - offsets[users]
    return [
        Segmentation("item", ["cold: no training event", "warm"], (trained > 0).astype(int)),
        Segmentation("user", ["new: no training row", "known"], has_training_rows.astype(int)),
        in_bands("events in the history", lengths, np.array(HISTORY_EDGES)),
        _by_popularity(trained),
    ]


def compute_segments(paired: PairedScores, segmentations: list[Segmentation]) -> list[SegmentAuc]:
    """Return the AUC of every model on every segment that has rows; None for one class or under `LEAST_ROWS` rows."""
    from sklearn.metrics import roc_auc_score

    aucs: list[SegmentAuc] = []
    for by, names, segments in segmentations:
        for place in np.unique(segments):
            chosen = segments == place
            labels = paired.labels[chosen]
            rows, positives, users = len(labels), int(labels.sum()), len(np.unique(paired.users[chosen]))
            segment = {"by": by, "segment": names[place], "rows": rows, "positives": positives, "users": users}
            defined = rows >= LEAST_ROWS and 0 < positives < rows
            for model, scores in zip(paired.models, paired.scores, strict=True):
                auc = float(roc_auc_score(labels, scores[chosen])) if defined else None
                aucs.append(cast(SegmentAuc, segment | {"model": model, "auc": auc}))
    return aucs


def _by_popularity(trained: Integers) -> Segmentation:
    parts, name = (10, "tenths") if len(trained) >= ROWS_FOR_TENTHS else (5, "fifths")
    edges = np.unique(np.quantile(trained, np.arange(1, parts) / parts, method="lower"))
    return in_bands(f"training events of the item, {name} of the rows", trained, edges[edges < trained.max()])


def in_bands(by: str, counts: Integers, edges: Integers) -> Segmentation:
    """Segment rows by counts; each edge is the highest count of its band, and the last band is open.

    Examples:
        >>> in_bands("events", np.array([0, 3, 9]), np.array([3, 7]))
        Segmentation(by='events', names=['0 to 3', '4 to 7', 'over 7'], segments=array([0, 0, 2]))
    """
    lowest = [0, *(edges[:-1] + 1)]
    names = [f"{low} to {high}" if low < high else f"{high}" for low, high in zip(lowest, edges, strict=False)]
    names.append(f"over {edges[-1]}" if len(edges) else "all")
    return Segmentation(by, names, np.searchsorted(edges, counts))
