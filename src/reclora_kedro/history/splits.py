"""Train, validation and test rows."""

from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from kedro_provenance.errors import Fault, Parameter, Sibling
from kedro_provenance.parameters import Block
from reclora_kedro.errors import require_both_classes
from reclora_kedro.parameters import Share

SPLIT_NAMES = ("train", "validation", "test")  # splits in the order of time
SPLITS = pl.Enum([*SPLIT_NAMES, "none"])  # a byte per row; none: in no split


class SplitShares(Block):
    """Shares of samples for training and validation; the rest is the test split."""

    train: Share = Field(gt=0)
    validation: Share = Field(gt=0)

    @model_validator(mode="after")
    def _leave_rows_to_test(self) -> Self:
        if self.train + self.validation >= 1:
            found = f"is {self.train}, and with ", Sibling("validation"), f" {self.validation} leaves no rows to test"
            raise Fault(Sibling("train"), found, advice="Lower them to a sum below 1")
        return self


class SplitConfig(SplitShares):
    """How samples are divided into train, validation and test."""

    kind: Literal["global_time", "per_user_last_out"]

    def bounds(self, samples: int) -> tuple[int, int]:
        """Return the places of the first validation and test sample in `global_time`."""
        train_end = int(self.train * samples)
        return train_end, train_end + int(self.validation * samples)


def split_of(place: pl.Expr, validation_begins: pl.Expr | int, test_begins: pl.Expr | int) -> pl.Expr:
    """Return an expression for the split of samples.

    Histories end before a row's own second (with strict ties), so a training row never sees a validation or test event
    of its user. In `global_time`, all training rows are also earlier than all validation and test rows. In
    `per_user_last_out` this holds within each user only: other users' training rows may be later than a test row, which
    reveals what was popular then. A test row's history may hold earlier test events, as when serving.

    `place` is that among all samples in the order of time (global_time), or the second (per_user_last_out), or with
    ties in order the row's own event; the others are the first ones of the validation and test splits.

    Examples:
        >>> config = SplitConfig(kind="global_time", train=0.6, validation=0.2)
        >>> pl.select(split=split_of(pl.int_range(10), *config.bounds(10)))["split"].value_counts(sort=True).rows()
        [('train', 6), ('validation', 2), ('test', 2)]
    """
    number = pl.when(place < validation_begins).then(0).when(place < test_begins).then(1).otherwise(2)
    return pl.lit(pl.Series(SPLIT_NAMES, dtype=SPLITS)).gather(number)


def uncut(place: int, seconds: np.ndarray) -> int:
    """Move a place among ascending seconds to the nearer end of the moment that it would divide.

    Examples:
        >>> seconds = np.array([7, 8, 8, 8, 9])
        >>> [uncut(place, seconds) for place in (-3, 1, 2, 3, 4)]
        [-3, 1, 1, 4, 4]
    """
    if not 0 < place < len(seconds):
        return place
    first, last = (int(np.searchsorted(seconds, seconds[place], side)) for side in ("left", "right"))
    return first if place - first < last - place else last


def count_in_splits(samples: pl.LazyFrame) -> dict[str, tuple[int, int]]:
    label = pl.col("label")
    counts = samples.group_by("split").agg(label.sum().cast(pl.Int64), pl.len()).collect(engine="streaming")
    by_split = {name: (likes, rows) for name, likes, rows in counts.iter_rows()}
    return {name: by_split.get(name, (0, 0)) for name in SPLIT_NAMES}


def require_classes_in_splits(counts: dict[str, tuple[int, int]]) -> None:
    """Raise Fault for a split without rows, or with one class alone; `counts` are from `count_in_splits`."""
    split, least = Parameter("history.split"), Parameter("history.min_history")
    threshold, negatives = Parameter("ingestion.label_threshold"), Parameter("history.negatives")
    changes = "Change ", split, ", lower ", least, ", move ", threshold
    advice = *changes, ", or let ", negatives, " draw what the log does not hold"
    for name, (likes, rows) in counts.items():
        require_both_classes(likes, rows, f"The {name} split of the samples", advice)


def require_training_samples(rows: int, min_history: int) -> None:
    """Raise Fault for a training split without rows."""
    if not rows:
        raise Fault(
            Parameter("history.min_history"),
            f"is {min_history}, so the training split has no samples, and no events would be known when methods are "
            "compared",
            "a sample needs that many earlier events of its user",
            ("Lower it, or change ", Parameter("history.split")),
        )
