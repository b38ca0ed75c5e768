"""Check whether single numbers tell drawn negatives from likes, so that models would learn the draw, not tastes."""

import logging

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from reclora_kedro.evaluation.records import Record, Records
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import TimeLog
from reclora_kedro.history.splits import SPLIT_NAMES

MOST_AUC = 0.55  # of a number alone, beyond which it is warned of
MOST_ROWS = 100_000  # of a split that are looked at: the standard error of the AUC is 0.002
NEVER = np.iinfo(np.int64).max  # seconds since the last event of an item without any
HOUR, WEEK = 3_600, 7 * 86_400  # seconds


def check_negatives(log: InteractionLog, seed: int) -> Records:
    """Measure how well single numbers of an item before the moment separate likes from drawn negatives.

    A split with more than `MOST_ROWS` rows is sampled with the seed. A record per number and split has number (in
    words), split, rows, auc (of the number, or of its negative if that is higher), and warning, a sentence, which is
    also logged, if the AUC is over `MOST_AUC` and two standard errors above one half, else null.
    """
    sequences = log.sequences
    time_log, records = TimeLog(sequences.item_index, sequences.timestamp), list[Record]()
    for split in SPLIT_NAMES:
        samples = log.samples_in(split)
        samples = samples.sample(min(MOST_ROWS, samples.height), seed=seed)
        for number, values in _numbers(samples, time_log, sequences.timestamp).items():
            auc = float(roc_auc_score(samples["label"], values))
            auc = max(auc, 1 - auc)
            warning = f"Of the {split} rows, {number} alone tell drawn negatives from likes: AUC {auc:.3f}."
            record = {"number": number, "split": split, "rows": samples.height, "auc": auc}
            tells = auc > max(MOST_AUC, 0.5 + 2 / (3 * samples.height) ** 0.5)
            records.append(record | {"warning": warning if tells else None})
    for record in records:
        if record["warning"]:
            logging.getLogger(__name__).warning(record["warning"])
    return records


def _numbers(samples: pl.DataFrame, time_log: TimeLog, timestamp: np.ndarray) -> dict[str, np.ndarray]:
    items, seconds = samples["item_index"].to_numpy(), samples["timestamp"].to_numpy()
    first, last = time_log.range_before(items, seconds)
    last_event = timestamp[time_log.order[np.maximum(last - 1, 0)]]
    return {
        "seconds since the item's last event": np.where(last > first, seconds - last_event, NEVER),
        "the item's events of the last hour": last - time_log.range_before(items, seconds - HOUR)[1],
        "the item's events of the last 7 days": last - time_log.range_before(items, seconds - WEEK)[1],
        "the item's earlier events": last - first,
        "the place of the item's id in order": items,
    }
