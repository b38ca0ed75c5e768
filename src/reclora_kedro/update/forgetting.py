"""Forgetting users: tables, log, item vectors and lens without them, and the files that still hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from kedro_provenance.errors import MismatchError
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.log import InteractionLog, LogInFiles
from reclora_kedro.history.log_builder import Growth, build_log, require_training
from reclora_kedro.history.sequences import levels_as_before
from reclora_kedro.history.splits import SPLIT_NAMES
from reclora_kedro.ingestion.cleaning import k_core
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.ingestion.entities import title_of_untitled
from reclora_kedro.ingestion.events import NO_VALUE
from reclora_kedro.ingestion.forgotten import NOBODY, ForgottenUsers
from reclora_kedro.ingestion.ids import id_text
from reclora_kedro.lens.config import FIELD

if TYPE_CHECKING:
    from reclora_kedro.lens.base import Lens
    from reclora_kedro.lens.layers import EntityEmbedding


class Tables(NamedTuple):
    """The canonical tables."""

    interactions: pl.LazyFrame
    items: pl.DataFrame
    users: pl.DataFrame


def require_users(
    ids: Iterable[Any],
    stored: Collection[str],
    before: ForgottenUsers = NOBODY,
    show: Callable[[str], None] = lambda nearest: None,
) -> None:
    """Raise ValueError for no ids, or one of nobody who is stored or was forgotten before.

    Error messages are logged, so this one contains no id: `show` is called with the stored ids most similar to it.

    Examples:
        >>> require_users(["ann"], {"anna", "bob"})
        Traceback (most recent call last):
        ...
        ValueError: forget.users[0] is an id that is in no stored version, and not in the service's journal: correct it.
    """
    if not (names := [id_text(each) or "" for each in ids]):
        raise ValueError("forget.users is empty: give ids, such as `--params forget.users=[42]`.")
    for place, name in enumerate(names):
        if name not in stored and name not in before:
            nearest = ", ".join(map(repr, get_close_matches(name, sorted(stored), cutoff=0)))
            show(f"{name!r} is not among the stored ids. The nearest: {nearest}.")
            raise ValueError(
                f"forget.users[{place}] is an id that is in no stored version, and not in the service's journal: "
                "correct it."
            )


def of_users(ids: Iterable[Any]) -> pl.Expr:
    return pl.col("user_id").cast(pl.String).is_in([id_text(each) for each in ids])


def forget_in_tables(tables: Tables, ids: Iterable[Any], config: IngestionConfig) -> Tables:
    """Return the canonical tables as ingestion would make them from raw tables without these users.

    Rows that thereby leave the k-core are dropped too, if the log was one, which it need not be after an update; so are
    items without other rows that have neither a title nor a text. If nothing is left, it raises ValueError.
    """
    interactions = tables.interactions.filter(~of_users(ids))
    counts = [tables.interactions.group_by(key).len().select(pl.col("len").min()) for key in ("user_id", "item_id")]
    if config.k_core > 1 and all(least.item() >= config.k_core for least in pl.collect_all(counts, engine="streaming")):
        interactions = k_core(interactions, config.k_core)
    users, logged, logged_before = (
        table.select(pl.col(key).unique()).collect(engine="streaming")
        for table, key in ((interactions, "user_id"), (interactions, "item_id"), (tables.interactions, "item_id"))
    )
    if users.is_empty():
        raise ValueError("Without the users of forget.users, no interaction is left: there is nothing to recommend by.")
    fields = [field.name for field in config.items.fields]
    unsaid = (pl.col("title") == title_of_untitled(config.items)) & pl.all_horizontal(pl.col(fields).is_null(), True)
    removed = (
        tables.items.filter(unsaid).join(logged_before, on="item_id", how="semi").join(logged, on="item_id", how="anti")
    )
    return Tables(
        interactions,
        tables.items.join(removed, on="item_id", how="anti", maintain_order="left"),
        tables.users.join(users, on="user_id", how="semi", maintain_order="left"),
    )


def forget_in_log(
    tables: Tables, log: InteractionLog, config: HistoryConfig, engine: EngineConfig = LOCAL
) -> InteractionLog | LogInFiles:
    """Return the log of tables without some users, with unchanged boundaries of the splits and rating levels.

    Both were chosen by counting events of all users. Keeping them keeps training rows out of the test split, and levels
    as the model has learned them. A split with one class alone raises ValueError.
    """
    schema = log.sequences.schema
    if moments := split_moments(log):
        built = build_log(*tables, config, engine, growth=Growth(log.sequences, *moments), schema=schema)
        if log.samples_in("train")["label"].n_unique() > 1:  # else nothing learns from labels
            require_training(built)
        return built
    built = build_log(*tables, config, engine, schema=schema)
    levels = levels_as_before(built.sequences.rating, log.sequences)
    return replace(built, sequences=replace(built.sequences, rating_level=levels))


def split_moments(log: InteractionLog) -> tuple[int, int] | None:
    """Return the first seconds of validation and test in a log split by time; None for another log.

    Examples:
        >>> from reclora_kedro.history.sequences import Sequences
        >>> samples = pl.DataFrame({"timestamp": [1, 2, 3, 4], "split": ["train", "validation", "validation", "test"]})
        >>> log = InteractionLog(pl.DataFrame(), pl.DataFrame(), Sequences.from_columns(np.array([0])), samples)
        >>> split_moments(log), split_moments(replace(log, samples=samples.reverse().with_columns(samples["split"])))
        ((2, 4), None)
    """
    end, begins = -1, []
    for split in SPLIT_NAMES:
        seconds = log.samples_in(split)["timestamp"].to_numpy()
        begins.append(int(seconds.min()) if len(seconds) else end + 1)
        if begins[-1] <= end:
            return None
        end = int(seconds.max()) if len(seconds) else end
    return begins[1], begins[2]


def kept_rows(before: pl.Series, after: pl.Series) -> np.ndarray:
    """Return the places of ids in an earlier table, shape (ids after,); -1 for new ones, which must come last.

    MismatchError is raised if there is no earlier id, or one follows a new one.

    Examples:
        >>> kept_rows(pl.Series("user_id", [3, 7, 9]), pl.Series("user_id", [3, 9, 5]))
        array([ 0,  2, -1])
    """
    places = pl.DataFrame({"id": before, "place": np.arange(len(before))})
    rows = pl.DataFrame({"id": after}).join(places, on="id", how="left", maintain_order="left")["place"]
    if rows.head(len(rows) - rows.null_count()).null_count() or rows.null_count() == len(rows):
        raise MismatchError(
            f"{rows.null_count()} values of {after.name} are not among the {len(before)} that the current model "
            "knows, and do not follow them: they stem from different runs.",
            "log",
            "lens",
        )
    return rows.fill_null(-1).to_numpy()


def keep_item_vectors(
    vectors: Mapping[str, np.ndarray], current: Mapping[str, np.ndarray], before: pl.Series, after: pl.Series
) -> dict[str, np.ndarray]:
    """Return `embeddings`, shape (items, d), and the fitted arrays beside them, for the remaining items.

    Items known to the current lens keep the vectors that it reads, which may be those of the first items only.
    MismatchError is raised for vectors of other items, or with other fitted arrays than the current lens's.
    """
    rows = kept_rows(before, after)
    if len(vectors["embeddings"]) != len(before) or rows.min() < 0:
        raise MismatchError(
            f"item_embeddings has {len(vectors['embeddings'])} rows, but there are {len(before)} items: they stem from "
            "different runs.",
            "item_embeddings",
        )
    made_with = vectors.keys() - {"embeddings"}
    if vectors.keys() != current.keys() or not all(np.array_equal(vectors[name], current[name]) for name in made_with):
        raise MismatchError(
            "The newest item_embeddings were made with other projections than those of the current model, so its lens "
            "cannot read them: run `kedro run --pipelines update` first, which uses the same projections.",
            "item_embeddings",
            "lens",
        )
    later = vectors["embeddings"][len(current["embeddings"]) :]
    return {**vectors, "embeddings": np.concatenate([current["embeddings"], later])[rows]}


def forget_in_lens(lens: Lens, before: InteractionLog, after: InteractionLog) -> Lens:
    """Remove users from a frozen lens: the vectors of their ids, and of values of fields and events that only they had.

    Users and items later than the lens, as after a rollback, are the unknown id. No other weight changes, so logits of
    the remaining users stay the same to the last bit if their inputs do. These change only through rating statistics:
    those of an item, also of one in a history, count the events of all users. For what it raises, see `kept_rows`.
    """
    import torch

    from reclora_kedro.lens.growth import rearrange_lens

    users, items = (
        torch.tensor(kept_rows(getattr(before, table)[key], getattr(after, table)[key]))
        for table, key in (("users", "user_id"), ("items", "item_id"))
    )
    kept = rearrange_lens(lens, after, users, items)
    fields = {
        "user_fields": drop_unused_values(kept.user, kept.sizes.user_fields),
        "item_fields": drop_unused_values(kept.item, kept.sizes.item_fields),
    }
    kept.sizes = kept.sizes.model_copy(update=fields)
    widths = {FIELD + name: len(values) for own in fields.values() for name, values in own.items()}
    kept.state_dims = {kind: widths.get(kind, width) for kind, width in kept.state_dims.items()}
    texts = {column.name: column.values for column in after.sequences.schema.declared}
    for (name, codes), table in zip(kept.sizes.event_values.items(), kept.event_tables, strict=True):
        gone = [place for place, code in enumerate(codes, 1) if texts[name][code - 1] == NO_VALUE]
        table.weight.data[gone] = table.weight.data[0].clone()  # that of all unknown values
    return kept.freeze()


def drop_unused_values(entity: EntityEmbedding, fields: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Remove the vectors of field values that no user (item) has; return the remaining values."""
    import torch

    used = torch.nn.functional.pad(entity.field_codes.flatten(), (1, 0)).unique()  # 0, for none, among them
    entity.values = torch.nn.Embedding.from_pretrained(entity.values.weight[used])
    entity.field_codes = torch.searchsorted(used, entity.field_codes)
    codes, kept = count(1), set(used.tolist())
    return {field: tuple(value for value in values if next(codes) in kept) for field, values in fields.items()}
