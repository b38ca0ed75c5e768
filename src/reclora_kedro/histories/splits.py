"""Train, validation and test rows, and the few of them that the LLM sees."""

from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from reclora_kedro.errors import require_both_classes
from reclora_kedro.parameters import Block, Count, Share


class SplitConfig(Block):
    """How samples are divided into train, validation and test."""

    kind: Literal["global_time", "per_user_last_out"]
    train: Share = Field(gt=0)
    validation: Share = Field(gt=0)

    @model_validator(mode="after")
    def _leave_rows_to_test(self) -> Self:
        if self.train + self.validation >= 1:
            raise ValueError(
                f"train + validation is {self.train} + {self.validation}, which leaves no rows to test: "
                "lower them to a sum below 1"
            )
        return self


class PromptRowsConfig(Block):
    """How many rows of each split the LLM sees; null takes all of them."""

    few_shot: Count | None
    validation: Count | None
    test: Count | None


def split_of(place: pl.Expr, units: int, later_units: pl.Expr, config: SplitConfig) -> pl.Expr:
    """The split of units: train, validation or test. A unit is a sample, or all samples of an impression.

    No row's history holds anything of its own second or later (where ties are strict), so in neither kind does a
    training row see a validation or test event of its user. `global_time` promises more: nothing that the training rows
    hold is later than any validation or test row, whoever the user. `per_user_last_out` keeps that order within each
    user only: other users' training rows may be later than a user's test row, so what was popular then is known to the
    lens. A test row's history may hold earlier test events, as it would at serving time.

    Args:
        place: of a unit among all, in (timestamp, user, item) order.
        units: how many there are.
        later_units: how many units of its user come after it.
        config: `global_time` takes the first `int(train * units)` to train, the next `int(validation * units)` to
            validate and the rest to test; `per_user_last_out` takes each user's last unit to test and the one before to
            validate.

    Examples:
        >>> samples = pl.DataFrame({"user_index": [0] * 10})
        >>> config = SplitConfig(kind="global_time", train=0.6, validation=0.2)
        >>> place = pl.int_range(pl.len())
        >>> samples.select(split=split_of(place, 10, 9 - place, config))["split"].value_counts(sort=True).rows()
        [('train', 6), ('validation', 2), ('test', 2)]
    """
    if config.kind == "global_time":
        train_end = int(config.train * units)
        validation_end = train_end + int(config.validation * units)
        trains, validates = place < train_end, place < validation_end
    else:
        trains, validates = later_units > 1, later_units == 1
    return pl.when(trains).then(pl.lit("train")).when(validates).then(pl.lit("validation")).otherwise(pl.lit("test"))


def require_classes_in_splits(samples: pl.DataFrame | pl.LazyFrame) -> None:
    """Refuse samples of which a split has one class only, or none at all.

    Raises:
        ValueError: names the split.
    """
    label = pl.col("label")
    counts = samples.lazy().group_by("split").agg(label.sum().cast(pl.Int64), pl.len()).collect(engine="streaming")
    by_split = {name: (positives, rows) for name, positives, rows in counts.iter_rows()}
    for name in ("train", "validation", "test"):
        require_both_classes(
            *by_split.get(name, (0, 0)),
            f"the {name} split of the samples",
            "Change history.split, lower history.min_history, move the label threshold of ingestion, or let "
            "history.negatives draw what the log does not hold.",
        )


def select_prompt_rows(samples: pl.DataFrame, config: PromptRowsConfig, seed: int) -> pl.DataFrame:
    """The rows that the LLM sees: few_shot from train, validation from validation, test from test.

    Each split's are drawn uniformly without replacement by its own random stream: another count of one use leaves the
    other uses' rows alone, and a larger count keeps the rows of a smaller one.

    Args:
        samples: with columns row, label and split.
        config: the counts.
        seed: of the draw.

    Returns:
        Columns row (UInt32), use (String) and label (Int8), by use and then row.

    Raises:
        ValueError: a split has fewer rows than asked for, or the drawn labels are all of one class.
    """
    draws = []
    for stream, (use, split) in enumerate((("few_shot", "train"), ("validation", "validation"), ("test", "test"))):
        rows = samples.filter(pl.col("split") == split).select("row", "label")
        count = getattr(config, use)
        if count is not None and count > rows.height:
            raise ValueError(
                f"history.prompt_rows.{use} asks for {count} rows, but the {split} split has {rows.height}: ask for at "
                "most that many, or write null to take them all"
            )
        chosen = np.random.default_rng([seed, stream]).permutation(rows.height)[:count]
        draw = rows[np.sort(chosen)].select("row", pl.lit(use).alias("use"), "label")
        require_both_classes(
            int(draw["label"].sum()), draw.height, f"the draw of history.prompt_rows.{use}", "Draw more rows."
        )
        draws.append(draw)
    return pl.concat(draws)
