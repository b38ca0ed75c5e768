"""The interaction log for later steps: users, items, their events, and samples with a split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import polars as pl
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from kedro_provenance.errors import Fault, MismatchError
from reclora_kedro.history.retrieval import WindowConfig, recent_events, similar_events, unit_vectors
from reclora_kedro.history.sequences import Sequences
from reclora_kedro.ingestion.events import EventSchema
from reclora_kedro.ingestion.ids import look_up, names

logger = logging.getLogger(__name__)

EMBEDDINGS_FILE = "item_embeddings.safetensors"
SAMPLES_FILE = "samples.arrow"
REPEATS_FILE = "repeats.arrow"
SEQUENCES_FILE = "sequences.safetensors"
SHARED_CLOCK, DECLARED = "shared_clock", "columns"  # keys of its metadata
ROWS_PER_BLOCK = 2**22  # of the samples in a file
MOST_BLOCKS = 8  # of a file: polars copies a column of more blocks whenever rows are taken from it


@dataclass(frozen=True)
class InteractionLog:
    """Users, items, their events and samples."""

    items: pl.DataFrame  # canonical items; an item's row number is its index everywhere
    users: pl.DataFrame  # canonical users; a user's row number is their index everywhere
    sequences: Sequences  # every user's events
    samples: pl.DataFrame  # see `log_builder.build_log`
    item_embeddings: np.ndarray | None = None  # vectors that retrieval compares, (items, d), once items are embedded
    encoder_widths: tuple[int, ...] = ()  # columns of these by each encoder, side by side
    shared_clock: bool = True  # whether times of different users compare, see `history.shared_clock`
    repeats: pl.DataFrame | None = None  # likes of items taken before, where these are no samples
    encoded: Mapping[str, np.ndarray] = field(default_factory=dict)  # what embeds new items, see `embed_items`

    def with_embeddings(
        self, item_embeddings: np.ndarray, encoder_widths: Sequence[int] | np.ndarray | None = None
    ) -> Self:
        """Return a copy with one vector per item, (items, d), and the number of columns of each encoder, if several."""
        if len(item_embeddings) != self.items.height:
            raise MismatchError(
                f"item_embeddings has {len(item_embeddings)} rows, but the log has {self.items.height} items: they "
                "stem from different runs.",
                "item_embeddings",
            )
        widths = item_embeddings.shape[1:] if encoder_widths is None else map(int, encoder_widths)
        return replace(self, item_embeddings=item_embeddings, encoder_widths=tuple(widths))

    def item_text_vectors(self) -> np.ndarray:
        """Item embeddings at unit length: float32, shape (items, d); raises ValueError without embeddings."""
        if self.item_embeddings is None:
            raise Fault("The log", "has no item vectors, which item_text needs", advice="Read the catalog entry log")
        return unit_vectors(self.item_embeddings).astype(np.float32)

    def of_items(self, chosen: np.ndarray, **changed: Any) -> Self:
        """Return a copy with some of the items, by a mask or their indices, and other fields changed to fit these."""
        vectors = None if self.item_embeddings is None else self.item_embeddings[chosen]
        places = np.arange(self.items.height)[chosen]
        return replace(self, items=self.items[places], item_embeddings=vectors, **changed)

    def require_grown(self, known: int, rows: str, reader: str) -> None:
        """Raise MismatchError if the log has fewer users or items (`rows`) than what was trained on an earlier one."""
        if (count := getattr(self, rows).height) < known:
            raise MismatchError(
                f"The log has {count} {rows}, but the {reader} knows {known}, and a log may only grow: give it a log "
                "that grew from its own.",
                "log",
                reader,
            )

    def rows_in(self, split: str) -> np.ndarray:
        """Return the row numbers of the samples of a split: int32, ascending."""
        return np.flatnonzero((self.samples["split"] == split).to_numpy()).astype(np.int32)

    def samples_in(self, split: str, *columns: str) -> pl.DataFrame:
        """Return the samples of a split, or some of their columns."""
        return self.samples.select(columns or pl.all()).filter(self.samples["split"] == split)

    def training_events(self) -> np.ndarray:
        """Return whether each event is visible in training: shape (events,).

        These are the events of training samples and, of other events, those before the first sample or repeat of their
        user in another split and, with a shared clock, no later than the last training sample.
        """
        columns, starts, ends = ("user_index", "history_end"), self.sequences.starts, self.sequences.ends
        later = self.samples.select(columns).filter(self.samples["split"] != "train")
        if self.repeats is not None:
            later = pl.concat([later, self.repeats.filter(pl.col("split") != "train").select(columns)])
        end = ends.copy()
        np.minimum.at(end, later["user_index"].to_numpy(), later["history_end"].to_numpy())
        is_training = np.tile([True, False], len(ends)).repeat(np.stack([end - starts, ends - end], axis=1).ravel())
        if self.shared_clock:
            is_training &= self.sequences.timestamp <= (self.samples_in("train", "timestamp").max().item() or 0)
        is_training[self.samples_in("train", "event")["event"].drop_nulls().to_numpy()] = True
        return is_training

    def with_training_rows(self, rows: np.ndarray) -> Self:
        """Return a copy with only these training samples, by row number; the others lose their split."""
        left_out = pl.col("row").is_in(np.setdiff1d(self.rows_in("train"), rows))
        split = pl.when(left_out).then(pl.lit("none")).otherwise("split")
        return replace(self, samples=self.samples.with_columns(split=split))

    @cached_property
    def last_second(self) -> int:
        return self.sequences.last_second

    def now(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Add the moment after a log's end to rows of user_index.

        It is history_end (the end of the user's events) and timestamp: a second after the last event of the log, which
        a visitor's may be later than, or, without a shared clock, of the user.
        """
        user = pairs["user_index"].to_numpy()
        end = self.sequences.ends[user]
        own = np.where(end > self.sequences.starts[user], self.sequences.timestamp[end - 1], 0)
        moment = {"history_end": end, "timestamp": np.maximum(own, self.last_second * self.shared_clock) + 1}
        return pairs.with_columns(pl.Series(name, values, dtype=pl.Int64) for name, values in moment.items())

    def find_users(self, ids: Any) -> pl.DataFrame:
        """Look up users by id, see `ids.listed`, each once, in the given order.

        A warning names unknown ones, and what is no id of this log and left out: None, NaN, and texts in a log of whole
        numbers. The frame has user_id, of the type of the log's, and user_index (Int32), null for an unknown id. A
        value that is no id, or a number that is written in another way than the log's ids, is refused by a ValueError.

        Examples:
            >>> users, items = pl.DataFrame({"user_id": [3, 7]}), pl.DataFrame({"item_id": [1]})
            >>> log = InteractionLog(items, users, Sequences.from_columns(np.zeros(3, dtype=int)), pl.DataFrame())
            >>> log.find_users(["7", 3, 7.0]).rows()
            [(7, 1), (3, 0)]
        """
        found, known = look_up(ids, self.users["user_id"], "users"), pl.col("index").is_not_null()
        users = found.drop_nulls("id").unique("id", maintain_order=True)
        if foreign := found.filter(pl.col("id").is_null())["given"].to_list():
            kind = "texts" if self.users.schema["user_id"] == pl.String else "whole numbers"
            count = f"{len(foreign)} of {found.height} requested users"
            logger.warning("%s are left out, because ids of this log's users are %s: %s.", count, kind, names(foreign))
        if len(unknown := users.filter(~known)):
            count = f"{len(unknown)} of {users.height} users"
            logger.warning("%s are unknown, and get the most popular items: %s.", count, names(unknown["id"]))
        return users.select(user_id="id", user_index="index")

    def find_items(self, ids: Any, argument: str) -> pl.Series:
        """Return the indices (Int32) of items by id, see `ids.listed`; null, with a warning, for an unknown one.

        Messages call the items by `argument`; ValueError as of `find_users`.

        Examples:
            >>> users, items = pl.DataFrame({"user_id": [3]}), pl.DataFrame({"item_id": [3, 7]})
            >>> log = InteractionLog(items, users, Sequences.from_columns(np.zeros(2, dtype=int)), pl.DataFrame())
            >>> log.find_items(["7", 3], "exclude").to_list()
            [1, 0]
        """
        found = look_up(ids, self.items["item_id"], argument)
        if len(unknown := found.filter(pl.col("index").is_null())["given"].unique(maintain_order=True)):
            written = f"Ids of the {self.items.height:,} items are written like {names(self.items['item_id'].head(3))}"
            text = "%s has %d unknown items, which are left out: %s. %s."
            logger.warning(text, argument, len(unknown), names(unknown), written)
        return found["index"]

    def choose_users(self, ids: Sequence[Any] | None, most_active: int | None) -> np.ndarray:
        """Return indices of users by id, in order, or of the most active first; raise ValueError for an unknown id.

        Examples:
            >>> users, items = pl.DataFrame({"user_id": [3, 7, 9]}), pl.DataFrame({"item_id": [1]})
            >>> sequences = Sequences.from_columns(np.array([0, 1, 5, 9]))
            >>> log = InteractionLog(items, users, sequences, pl.DataFrame())
            >>> log.choose_users([9, "3"], None), log.choose_users(None, 2)
            (array([2, 0]), array([1, 2]))
        """
        if ids is None:
            return np.argsort(-np.diff(self.sequences.offsets), kind="stable")[:most_active]
        chosen = look_up(ids, self.users["user_id"], "users").unique("given", maintain_order=True)
        if len(unknown := chosen.filter(pl.col("index").is_null())["given"]):
            known = f"the log has {self.users.height}, such as {names(self.users['user_id'].head(3))}"
            raise Fault(f"The users {names(unknown)}", "are not in the log", known, "Correct the ids")
        return chosen["index"].to_numpy().astype(np.int64)

    def histories(self, samples: pl.DataFrame, window: WindowConfig) -> np.ndarray:
        """Return the history of each sample by the window's kind; a retrieved one needs item embeddings.

        Histories are int32 flat event indices, shape (rows, length of the longest one, from 1 to k): in time order,
        left-aligned, padded with -1.
        """
        if window.kind == "recent":
            return recent_events(samples, self.sequences, window.k)
        if self.item_embeddings is None:
            advice = "Read the catalog entry log, which has them, or set the kind of the history to recent"
            raise Fault("The log", "has no item vectors, which a retrieved history needs", advice=advice)
        return similar_events(samples, self.sequences, self.item_embeddings, window.k)

    def save(self, folder: Path) -> None:
        save_tables(folder, self, self.samples.lazy().drop("row"), len(self.samples))
        if self.item_embeddings is not None:
            vectors = {"embeddings": self.item_embeddings, "encoder_widths": np.array(self.encoder_widths)}
            save_file({**self.encoded, **vectors}, folder / EMBEDDINGS_FILE)

    @classmethod
    def load(cls, folder: Path, mapped: bool = True) -> Self:
        """Load a log; samples and sequences stay in their files, which are mapped into memory, or else are copied."""
        arrays = _mapped if mapped else load_file
        items, users = (pl.read_parquet(folder / f"{name}.parquet") for name in ("items", "users"))
        samples, repeats = pl.read_ipc(folder / SAMPLES_FILE, memory_map=mapped), folder / REPEATS_FILE
        with safe_open(folder / SEQUENCES_FILE, "numpy") as file:
            about = file.metadata() or {}
        schema = EventSchema.from_json(about.get(DECLARED, "[]"))
        sequences = Sequences.from_columns(schema=schema, **arrays(folder / SEQUENCES_FILE))
        log = cls(items, users, sequences, samples, shared_clock=about.get(SHARED_CLOCK) != "false")
        if repeats.exists():
            log = replace(log, repeats=pl.read_ipc(repeats, memory_map=mapped))
        embeddings = folder / EMBEDDINGS_FILE
        if not embeddings.exists():
            return log
        vectors = arrays(embeddings)
        log = log.with_embeddings(vectors.pop("embeddings"), vectors.pop("encoder_widths"))
        return replace(log, encoded=vectors)


@dataclass(frozen=True)
class LogInFiles:
    """A log whose samples are in temporary files, which are removed with it; for saving as an `InteractionLog`."""

    items: pl.DataFrame
    users: pl.DataFrame
    sequences: Sequences
    samples: pl.LazyFrame  # scans the files, in order
    rows: int  # of the samples
    scratch: TemporaryDirectory  # the folder of the samples
    shared_clock: bool
    repeats: pl.LazyFrame | None

    def save(self, folder: Path) -> None:
        save_tables(folder, self, self.samples, self.rows)


def save_tables(folder: Path, log: InteractionLog | LogInFiles, samples: pl.LazyFrame, rows: int) -> None:
    """Write the files of a log without embeddings to an existing folder; the samples have `rows` rows, not numbered."""
    log.items.write_parquet(folder / "items.parquet")
    log.users.write_parquet(folder / "users.parquet")
    about, sequences = {SHARED_CLOCK: "true" if log.shared_clock else "false"}, log.sequences
    if sequences.schema.declared:
        about[DECLARED] = sequences.schema.to_json()
    save_file({"offsets": sequences.offsets} | sequences.columns, folder / SEQUENCES_FILE, metadata=about)
    if log.repeats is not None:
        log.repeats.lazy().sink_ipc(folder / REPEATS_FILE)
    rows_per_block = max(ROWS_PER_BLOCK, -(-rows // MOST_BLOCKS))
    # Uncompressed, so that it can be mapped.
    samples.with_row_index("row").sink_ipc(folder / SAMPLES_FILE, record_batch_size=rows_per_block)


def _mapped(file: Path) -> dict[str, np.ndarray]:
    if find_spec("torch") is None:
        return load_file(file)  # a copy: only the function for torch maps the file
    from safetensors import torch

    return {name: tensor.numpy() for name, tensor in torch.load_file(file).items()}
