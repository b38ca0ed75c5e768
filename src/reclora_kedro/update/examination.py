"""Alarms of an update: new interactions that may be an attack or an accident, before any training on them."""

import numpy as np
import polars as pl
from pydantic import Field
from sklearn.metrics import roc_auc_score

from kedro_provenance.parameters import Block
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import Growth, build_log
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.schema import EVENT_KEY
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.states import LensReader
from reclora_kedro.parameters import Count, NonNegative, Real
from reclora_kedro.update.updates import RawEntities, append_events, append_items, append_users


class ExaminationConfig(Block):
    """Thresholds of the alarms of new interactions."""

    user_share: Real = Field(gt=0, lt=1)
    user_rows: Count
    fall: NonNegative
    fall_rows: Count


def examine_events(
    new: pl.DataFrame,
    log: pl.LazyFrame,
    champion_log: InteractionLog,
    lens: Lens,
    ingestion: IngestionConfig,
    history: HistoryConfig,
    config: ExaminationConfig,
    report: CleaningReport,
) -> pl.DataFrame:
    """Return the new interactions that raise an alarm, with a further column `alarm`, the reason.

    These are all of a user with more than `user_rows` of them and more than `user_share`; or all new ones if the
    current model's AUC on the others is lower than on the test rows of its own log by more than `fall`, measured on at
    least `fall_rows` each: tastes change slowly, so that such a fall reveals inverted or random labels.
    """
    added = without_known(new, log)
    users = added.group_by("user_id").len("rows")
    most = (pl.col("rows") > config.user_rows) & (pl.col("rows") > config.user_share * added.height)
    crowding = added.join(users.filter(most), on="user_id", how="semi", maintain_order="left")
    alarms = [crowding.with_columns(alarm=pl.lit("one user has most of the new interactions"))]
    others = added.join(crowding, on=EVENT_KEY, how="anti", maintain_order="left")
    before, now = champion_auc(others, log, champion_log, lens, ingestion, history, config.fall_rows)
    if now < before - config.fall:
        why = f"the champion's AUC is {now:.3f} on them, and was {before:.3f} on the test rows of its log"
        alarms.append(others.with_columns(alarm=pl.lit(why)))
    quarantined = pl.concat(alarms)
    for (why,), rows in quarantined.partition_by("alarm", as_dict=True, maintain_order=True).items():
        report.record(f"new interactions of {rows['user_id'].n_unique():,} users with an alarm", rows.height, str(why))
    return quarantined


def without_known(new: pl.DataFrame, log: pl.LazyFrame) -> pl.DataFrame:
    later = log.filter(pl.col("timestamp") >= new["timestamp"].min()).collect() if new.height else new
    return new.join(later, on=[*EVENT_KEY, "rating", "label"], how="anti", nulls_equal=True, maintain_order="left")


def champion_auc(
    new: pl.DataFrame,
    log: pl.LazyFrame,
    champion_log: InteractionLog,
    lens: Lens,
    ingestion: IngestionConfig,
    history: HistoryConfig,
    least: int,
) -> tuple[float, float]:
    """Return the AUC of the current lens on the test rows of its log, and on samples of new interactions.

    It is NaN for fewer rows than `least`, or labels of one class. Vectors of new items, not yet computed, are zero.
    """
    tested = champion_log.samples_in("test")
    if min(new.height, tested.height) < least:
        return np.nan, np.nan
    interactions = append_events(log, new, ingestion, CleaningReport())
    nothing, report = RawEntities(), CleaningReport()
    items = append_items(champion_log.items, interactions, nothing, ingestion.items, None, report)
    users = append_users(champion_log.users, interactions, nothing, ingestion.users, report)
    end = interactions.select(pl.col("timestamp").max()).collect().item() + 1
    in_memory = LOCAL.model_copy(update={"rows_per_part": interactions.select(pl.len()).collect().item()})
    growth = Growth(champion_log.sequences, end, end)
    grown = build_log(interactions, items, users, history, in_memory, growth=growth)
    assert isinstance(grown, InteractionLog)
    if (vectors := champion_log.item_embeddings) is not None:
        padded = np.pad(vectors, ((0, items.height - len(vectors)), (0, 0)))
        grown = grown.with_embeddings(padded, champion_log.encoder_widths)
    indices = users.select("user_id", user_index=pl.int_range(pl.len(), dtype=pl.Int32))
    moments = new.join(indices, on="user_id").select("user_index", "timestamp")
    samples = grown.samples.join(moments, on=moments.columns, how="semi", maintain_order="left")
    return lens_auc(lens, champion_log, tested, least), lens_auc(lens, grown, samples, least)


def lens_auc(lens: Lens, log: InteractionLog, samples: pl.DataFrame, least: int) -> float:
    """Return the AUC of a lens on samples of a grown log; NaN for too few samples, or one class."""
    if samples.height < least or samples["label"].n_unique() < 2:
        return np.nan
    return float(roc_auc_score(samples["label"], LensReader(grow_lens(lens, log), log).logits(samples)))
