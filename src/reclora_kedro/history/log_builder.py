"""The log from the canonical tables, part by part: sequences of users, samples, their splits and negatives.

Parts are counted, built (`log_parts`) and, if negatives are drawn, read again (`negatives_in_parts`). A log of at most
`engine.rows_per_part` rows is one part, whose samples stay in memory; samples of several parts are written to files.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Parameter
from kedro_provenance.files.scratch import scratch_folder
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, map_shards
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog, LogInFiles
from reclora_kedro.history.log_parts import (
    NO_SAMPLES,
    Growth,
    Part,
    Tables,
    Totals,
    build_part,
    count_what_is_before,
    spans_of,
)
from reclora_kedro.history.negatives_in_parts import WITHOUT_NEGATIVES, samples_with_negatives
from reclora_kedro.history.sequences import Sequences, levels_as_before, rating_levels
from reclora_kedro.history.splits import count_in_splits, require_classes_in_splits, require_training_samples
from reclora_kedro.ingestion.cleaning_report import CleaningReport
from reclora_kedro.ingestion.events import PLAIN, EventSchema


def build_log(
    interactions: pl.DataFrame | pl.LazyFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    config: HistoryConfig,
    engine: EngineConfig = LOCAL,
    report: CleaningReport | None = None,
    growth: Growth | None = None,
    schema: EventSchema = PLAIN,
) -> InteractionLog | LogInFiles:
    """Build the log, with the events and about `engine.rows_per_part` samples in memory at once.

    Its samples are in (timestamp, user) order, and have the columns row (UInt32, from 0), user_index, item_index
    (Int32), label (Int8), timestamp (Int64, seconds), event (Int64, the row's own flat event index), history_end
    (Int64; the row's history is the flat events `offsets[user_index]:history_end`) and split. Events of one user and
    second keep the order of the interactions with ties in `order`, and else have one that is drawn by the seed: ids
    may be in an order that means nothing, and whatever learns from sequences would learn it.

    Every row whose history holds at least `min_history` events is a sample. Histories are strict in time: events of the
    row's own second never enter them, so that the samples of one user and second, such as those of an impression or a
    basket, share theirs. With ties in `order`, the events before the row in the sequence enter it, as in the paper.

    Some logs have rows that are no events (shown and not clicked) or no samples (starting histories). A row that was
    not clicked has the `event` of a click of the same moment, or null where there was none.

    Where negatives are drawn, items that the user took before are no samples; likes of these are `repeats`, with the
    columns of samples and row numbers that follow theirs. Growth replaces `config.split` and `config.rating_levels`;
    splits may then have one class or be empty, see `require_training`. Columns of the schema that the interactions lack
    have no values.

    Tables of different runs are refused by a MismatchError; a log that is too short, or none of whose samples trains,
    and settings that do not fit a log of impressions by a Fault; any of these on a worker by a ShardError.
    """
    interactions, report = schema.complete(interactions.lazy()), report or CleaningReport()
    schema = (schema.after(growth.before.schema) if growth else schema).coded(interactions)
    nulls = pl.col("rating", "label").null_count()
    rows, not_clicked, unlabelled = interactions.select(pl.len(), nulls).collect().row(0)
    in_memory = rows <= engine.rows_per_part
    engine = engine.here() if in_memory else engine
    impressions = not_clicked + unlabelled > 0
    if impressions:
        _require_settings_for_impressions(not_clicked, config)
    tables = Tables(interactions, items, users, config, impressions, growth, schema)
    spans = spans_of(interactions, rows, engine.rows_per_part)
    parts, totals = count_what_is_before(tables, spans, rows - unlabelled, report, engine)

    scratch = scratch_folder(engine.scratch)
    folder = Path(scratch.name)
    draws = config.negatives.kind != "none"
    target = None if in_memory else folder / WITHOUT_NEGATIVES if draws else folder
    sequences, samples = _build_parts(tables, totals, parts, target, engine)
    repeats = None
    if draws:
        samples, repeats, left_out = samples_with_negatives(sequences, samples, config, engine, folder, in_memory)
        report.record("interactions with items that their user had taken before", left_out, NO_SAMPLES)
    kept = _report_splits(samples, config, growth, report)
    if repeats is not None:
        repeats = repeats.with_row_index("row", kept)
    clock = config.shared_clock
    if not in_memory:
        return LogInFiles(items, users, sequences, pl.concat(samples), kept, scratch, clock, repeats)
    scratch.cleanup()
    rows_in_memory = samples[0].with_row_index("row").collect()
    repeats_in_memory = None if repeats is None else repeats.collect()
    return InteractionLog(items, users, sequences, rows_in_memory, shared_clock=clock, repeats=repeats_in_memory)


def require_training(log: InteractionLog | LogInFiles) -> None:
    """Raise Fault for a grown log whose training samples are of one class."""
    require_classes_in_splits({"train": count_in_splits(log.samples.lazy())["train"]})


def _build_parts(
    tables: Tables, totals: Totals, parts: Sequence[Part], target: Path | None, engine: EngineConfig
) -> tuple[Sequences, list[pl.LazyFrame]]:
    """Build the parts; return the events of all of them, and the samples of each, in files of `target` if any."""
    config, schema, growth, events = tables.config, tables.schema, tables.growth, totals.offsets[-1]
    gathered = {name: np.empty(events, dtype) for name, dtype in schema.arrays.items()}
    trains, samples = np.zeros(events, dtype=bool), list[pl.LazyFrame]()
    for built in map_shards(partial(build_part, tables, totals, target), parts, engine, "histories"):
        for name, column in gathered.items():
            column[built.event] = built.columns[name]
        trains[built.training] = True
        samples.append(built.samples)
    if growth:
        levels = levels_as_before(gathered["rating"], growth.before)
    else:
        levels = rating_levels(gathered["rating"], gathered["rating"][trains], config.rating_levels)
    schema = schema.scaled(gathered, trains)
    return Sequences.from_columns(totals.offsets, schema, rating_level=levels, **gathered), samples


def _report_splits(
    samples: list[pl.LazyFrame], config: HistoryConfig, growth: Growth | None, report: CleaningReport
) -> int:
    """Report the samples of each split, and return their number; a log that did not grow must have some that train."""
    counts = count_in_splits(pl.concat(samples))
    for split, (likes, height) in counts.items():
        report.record(f"{split} samples", height, f"rows kept; {likes / max(height, 1):.1%} of them likes")
    if config.split.kind == "per_user_last_out" and not growth:
        second, part = pl.col("timestamp"), pl.col("split")
        later = (part == "train") & (second > second.filter(part == "test").min())
        found = pl.concat(samples).select(later.sum().cast(pl.Int64)).collect(engine="streaming").item()
        note = "their statistics know others' test labels"
        report.record("train samples later than the first test sample", found, note)
    if config.shared_clock and not growth:
        require_training_samples(counts["train"][1], config.min_history)
    return sum(height for _, height in counts.values())


def _require_settings_for_impressions(not_clicked: int, config: HistoryConfig) -> None:
    if config.ties != "strict":
        raise Fault(
            Parameter("history.ties"),
            f"is {config.ties!r}, but the log holds impressions or starting histories",
            "samples of the same moment share one history, because a click of that moment would reveal the labels",
            "Set it to strict",
        )
    if config.negatives.kind != "none" and not_clicked:
        raise Fault(
            Parameter("history.negatives.kind"),
            f"is {config.negatives.kind!r}",
            f"the log has {not_clicked} impressions that were not clicked, which are its negatives",
            "Set it to none",
        )
    if config.prompt_rows.unit != "likes" and not_clicked:
        raise Fault(
            Parameter("history.prompt_rows.unit"),
            f"is {config.prompt_rows.unit!r}, but the log has {not_clicked} impressions that were not clicked",
            "rows drawn one by one hold few clicks, and few users with a click and something else",
            "Set it to likes, with sizes in clicks",
        )
