"""The interaction log for later steps: users, items, their events, and samples with a split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from kedro_provenance.errors import MismatchError
from reclora_kedro.histories.retrieval import WindowConfig, assemble_history, unit_vectors
from reclora_kedro.histories.sequences import Sequences, user_of_events

EMBEDDINGS_FILE = "item_embeddings.safetensors"


@dataclass(frozen=True)
class InteractionLog:
    """Users, items, their events and samples."""

    items: pl.DataFrame  # canonical items; an item's row number is its index everywhere
    users: pl.DataFrame  # canonical users; a user's row number is their index everywhere
    sequences: Sequences  # every user's events
    samples: pl.DataFrame  # see `log_builder.build_log`
    item_embeddings: np.ndarray | None = None  # vectors that retrieval compares, (items, d), once items are embedded
    encoder_widths: tuple[int, ...] = ()  # columns of these by each encoder, side by side

    def with_embeddings(
        self, item_embeddings: np.ndarray, encoder_widths: Sequence[int] | np.ndarray | None = None
    ) -> Self:
        """Return a copy with vectors of its items, shape (items, d).

        Args:
            encoder_widths: number of columns of each encoder; None for a single encoder.

        Raises:
            MismatchError: there is not one vector per item.
        """
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
            raise ValueError("item_text is true, but the log has no item embeddings: read the catalog entry log.")
        return unit_vectors(self.item_embeddings).astype(np.float32)

    def rows_in(self, split: str) -> np.ndarray:
        return np.flatnonzero((self.samples["split"] == split).to_numpy())

    def samples_in(self, split: str) -> pl.DataFrame:
        return self.samples[self.rows_in(split)]

    def training_events(self) -> np.ndarray:
        """Return whether each event is visible in training: shape (events,).

        These are the events of training samples and, of other events, those no later than the last training sample and
        before the first sample of their user in another split.
        """
        trains, later = self.samples_in("train"), self.samples.filter(pl.col("split") != "train")
        end = self.sequences.offsets[1:].copy()
        np.minimum.at(end, later["user_index"].to_numpy(), later["history_end"].to_numpy())
        before = np.arange(len(self.sequences.timestamp)) < end[user_of_events(self.sequences.offsets)]
        is_training = before & (self.sequences.timestamp <= (trains["timestamp"].max() or 0))
        is_training[trains["event"].drop_nulls().to_numpy()] = True
        return is_training

    def with_training_rows(self, rows: np.ndarray) -> Self:
        """Return a copy with only these training samples, by row number; the others lose their split."""
        left_out = pl.col("row").is_in(np.setdiff1d(self.rows_in("train"), rows))
        split = pl.when(left_out).then(pl.lit("none")).otherwise("split")
        return replace(self, samples=self.samples.with_columns(split=split))

    @property
    def last_second(self) -> int:
        return self.sequences.last_second

    def now(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Add the moment after the log's end to pairs of user_index and item_index.

        It is history_end (the end of the user's events) and timestamp (a second after the last event of the log).
        """
        end = self.sequences.ends[pairs["user_index"].to_numpy()]
        now = np.full(pairs.height, self.last_second + 1)
        moment = {"history_end": end, "timestamp": now}
        return pairs.with_columns(pl.Series(name, values, dtype=pl.Int64) for name, values in moment.items())

    def find_users(self, ids: pl.Series | Sequence[Any]) -> pl.DataFrame:
        """Look up users by id, each once, in the given order; ids may be of any type, such as integers for text.

        Returns:
            Frame with user_id, of the type of the canonical users' or String if an id does not fit it, and user_index
            (Int32), null for an unknown id.

        Examples:
            >>> users, items = pl.DataFrame({"user_id": [3, 7]}), pl.DataFrame({"item_id": [1]})
            >>> log = InteractionLog(items, users, Sequences(*[np.zeros(0)] * 6), pl.DataFrame())
            >>> log.find_users(["7", 9]).rows()
            [(7, 1), (9, None)]
        """
        if not isinstance(ids, pl.Series):
            ids = pl.Series([str(user_id) for user_id in ids], dtype=pl.String)
        ids = ids.alias("user_id")
        fitting = ids.cast(self.users.schema["user_id"], strict=False)
        ids = ids.cast(pl.String) if fitting.null_count() else fitting
        users = self.users.select(
            pl.col("user_id").cast(ids.dtype), pl.int_range(pl.len(), dtype=pl.Int32).alias("user_index")
        )
        return ids.unique(maintain_order=True).to_frame().join(users, on="user_id", how="left", maintain_order="left")

    def choose_users(self, ids: Sequence[Any] | None, most_active: int | None) -> np.ndarray:
        """Return indices of users by id, in the given order, or without ids of the most active ones first.

        Raises:
            ValueError: an id is unknown.

        Examples:
            >>> users, items = pl.DataFrame({"user_id": [3, 7, 9]}), pl.DataFrame({"item_id": [1]})
            >>> sequences = Sequences(np.array([0, 1, 5, 9]), *[np.zeros(9)] * 5)
            >>> log = InteractionLog(items, users, sequences, pl.DataFrame())
            >>> log.choose_users([9, "3"], None), log.choose_users(None, 2)
            (array([2, 0]), array([1, 2]))
        """
        if ids is None:
            return np.argsort(-np.diff(self.sequences.offsets), kind="stable")[:most_active]
        chosen = self.find_users(ids)
        unknown = chosen.filter(pl.col("user_index").is_null())["user_id"].to_list()
        if unknown:
            raise ValueError(
                f"The users {', '.join(map(repr, unknown))} are none of the log's {self.users.height}, such as "
                f"{', '.join(map(str, self.users['user_id'].head(3)))}: correct the ids."
            )
        return chosen["user_index"].to_numpy().astype(np.int64)

    def histories(self, samples: pl.DataFrame, window: WindowConfig) -> np.ndarray:
        """Return the events in the history of each sample: flat event indices, see `assemble_history`."""
        return assemble_history(samples, self.sequences, self.item_embeddings, window)

    def save(self, folder: Path) -> None:
        save_tables(folder, self.items, self.users, self.sequences)
        self.samples.drop("row").write_parquet(folder / samples_file(0))
        if self.item_embeddings is not None:
            vectors = {"embeddings": self.item_embeddings, "encoder_widths": np.array(self.encoder_widths)}
            save_file(vectors, folder / EMBEDDINGS_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        items, users = (pl.read_parquet(folder / f"{name}.parquet") for name in ("items", "users"))
        samples = pl.read_parquet(sorted(folder.glob("samples-*.parquet")))
        log = cls(items, users, Sequences(**load_file(folder / "sequences.safetensors")), numbered(samples))
        embeddings = folder / EMBEDDINGS_FILE
        if not embeddings.exists():
            return log
        vectors = load_file(embeddings)
        return log.with_embeddings(vectors["embeddings"], vectors["encoder_widths"])


def save_tables(folder: Path, items: pl.DataFrame, users: pl.DataFrame, sequences: Sequences) -> None:
    """Write the files of a log, except for its samples, to an existing folder."""
    items.write_parquet(folder / "items.parquet")
    users.write_parquet(folder / "users.parquet")
    save_file(vars(sequences), folder / "sequences.safetensors")


def numbered(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"), pl.exclude("row"))


def samples_file(part: int) -> str:
    """Return the name of the file with a part of the samples, without row numbers; names sort by part.

    Examples:
        >>> samples_file(7)
        'samples-00007.parquet'
    """
    return f"samples-{part:05}.parquet"
