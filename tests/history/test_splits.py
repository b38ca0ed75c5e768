import polars as pl
import pytest

from reclora_kedro.history.splits import SplitConfig, count_in_splits, require_classes_in_splits, split_of

GLOBAL_TIME = SplitConfig(kind="global_time", train=0.8, validation=0.1)


def samples(rows: int, users: int = 3) -> pl.DataFrame:
    place = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "row": place.cast(pl.UInt32),
            "user_index": (place % users).cast(pl.Int32),
            "label": (place // users % 2).cast(pl.Int8),
        }
    )


def assign_splits(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.with_columns(split=split_of(pl.int_range(pl.len()), *GLOBAL_TIME.bounds(samples.height)))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(40, (32, 4, 4)), (99, (79, 9, 11)), (95_285, (76_228, 9_528, 9_529)), (970_009, (776_007, 97_000, 97_002))],
)
def test_the_global_time_split_takes_the_papers_shares_in_order(rows, sizes):
    split = assign_splits(samples(rows, users=1))["split"]
    assert split.rle().struct.unnest().rows() == list(zip(sizes, ("train", "validation", "test"), strict=True))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            range(32),
            r"The train split of the samples has 32 of 32 rows that are liked .*history\.min_history.*ingestion",
        ),
        (range(32, 36), r"The validation split of the samples has 4 of 4 rows that are liked \(label 1\)"),
        (range(36, 40), r"The test split of the samples has 4 of 4 rows that are liked"),
    ],
)
def test_a_split_of_one_class_is_refused(rows, message):
    one_class = samples(40, users=1).with_columns(
        label=pl.when(pl.col("row").is_in(list(rows))).then(1).otherwise(pl.col("row") % 2)
    )
    with pytest.raises(ValueError, match=message):
        require_classes_in_splits(count_in_splits(assign_splits(one_class).lazy()))


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match=r"The validation split of the samples has 0 of 0 rows .*history\.split"):
        require_classes_in_splits(count_in_splits(assign_splits(samples(9, users=1)).lazy()))
