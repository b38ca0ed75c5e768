import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from kedro_provenance.errors import MismatchError
from reclora_kedro.evaluation.scores import PairedScores
from reclora_kedro.evaluation.segments import Segmentation, compute_segments, segment_rows

# Users 0 and 1 have training rows, user 2 has none; item 3 occurs in no training row, item 4 only as a drawn negative
# and in an impression without a click.
OFFSETS, EVENT_ITEMS = np.array([0, 4, 8, 11]), np.array([0, 1, 0, 3, 0, 0, 1, 2, 3, 0, 4])
SAMPLES = pl.DataFrame(
    {
        "row": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        "user_index": [0, 0, 0, 1, 1, 1, 0, 2, 2, 1],
        "item_index": [0, 1, 4, 0, 0, 2, 3, 0, 4, 4],
        "event": [0, 1, 1, 4, 5, 7, 3, 9, 10, None],
        "history_end": [0, 1, 1, 4, 5, 7, 3, 9, 10, 6],
        "split": ["train"] * 5 + ["test"] * 4 + ["train"],
    },
    schema_overrides={"row": pl.UInt32, "user_index": pl.Int32, "item_index": pl.Int32},
)


def paired(rows: list[int], users: list[int]) -> PairedScores:
    labels = np.arange(len(rows)) % 2 == 0
    return PairedScores(("lens",), np.array(rows), np.array(users), labels, np.zeros((1, len(rows))))


def names_of_rows(segmentation: Segmentation) -> list[str]:
    return [segmentation.names[place] for place in segmentation.segments]


def test_rows_are_told_apart_by_what_the_training_split_holds():
    parts = segment_rows(paired([5, 6, 7, 8], [1, 0, 2, 2]), SAMPLES, OFFSETS, EVENT_ITEMS)
    item, user, history, popularity = parts
    cold, new = item.names[0], user.names[0]
    assert names_of_rows(item) == [cold, cold, "warm", cold]
    assert names_of_rows(user) == ["known", "known", new, new]
    assert names_of_rows(history) == ["0 to 10"] * 4
    assert history.names == ["0 to 10", "11 to 50", "51 to 200", "over 200"]
    # Items 2, 3 and 4 have no training event, item 0 has three.
    assert names_of_rows(popularity) == ["0", "0", "over 0", "0"]
    assert popularity.by == "training events of the item, fifths of the rows"


def test_the_order_of_the_samples_does_not_matter():
    pair = paired([5, 6, 7, 8], [1, 0, 2, 2])
    shuffled = SAMPLES.sample(fraction=1, shuffle=True, seed=1)
    for before, after in zip(
        segment_rows(pair, SAMPLES, OFFSETS, EVENT_ITEMS),
        segment_rows(pair, shuffled, OFFSETS, EVENT_ITEMS),
        strict=True,
    ):
        assert names_of_rows(before) == names_of_rows(after)


def test_rows_of_another_log_are_refused():
    message = r"2 of 4 rows in scores are no samples of the log with their users \(the first is row 6\)"
    with pytest.raises(MismatchError, match=message) as refusal:
        segment_rows(paired([5, 6, 7, 99], [1, 1, 2, 2]), SAMPLES, OFFSETS, EVENT_ITEMS)
    assert refusal.value.entries == ("scores",)


def test_history_lengths_count_the_users_own_events():
    lengths = np.array([0, 10, 11, 50, 51, 200, 201])
    count = len(lengths)
    samples = pl.DataFrame(
        {"row": range(count), "user_index": range(count), "item_index": [0] * count, "event": [300] * count}
    ).with_columns(history_end=pl.Series(301 * np.arange(count) + lengths), split=pl.lit("test"))
    training = samples.head(1).with_columns(row=pl.lit(count, pl.Int64), split=pl.lit("train"))
    offsets, items = 301 * np.arange(count + 1), np.zeros(301 * count, dtype=int)
    pair = paired([*range(count)], [*range(count)])
    _, _, history, popularity = segment_rows(pair, pl.concat([samples, training]), offsets, items)
    assert history.segments.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert popularity.names == ["all"]


@pytest.mark.parametrize(("rows", "parts"), [(4_999, 5), (5_000, 10)])
def test_popularity_is_in_tenths_where_rows_are_many(rows: int, parts: int):
    # Item i has i training events.
    training = pl.DataFrame({"item_index": np.repeat(np.arange(100), np.arange(100))}).with_row_index("event")
    events = training["item_index"].to_numpy()
    test = pl.DataFrame({"item_index": np.arange(rows) % 100}).with_columns(event=pl.lit(0, pl.UInt32))
    samples = (
        pl.concat(
            [test.with_columns(split=pl.lit("test")), training.with_columns(split=pl.lit("train"))], how="diagonal"
        )
        .with_row_index("row")
        .with_columns(user_index=pl.lit(0), history_end=pl.lit(0))
    )
    pair = paired([*range(rows)], [0] * rows)
    *_, popularity = segment_rows(pair, samples, np.array([0, len(events)]), events)
    assert len(popularity.names) == parts
    counts = np.bincount(popularity.segments)
    assert counts.min() > 0.8 * rows / parts
    assert popularity.names[0].startswith("0 to ")
    assert popularity.names[-1].startswith("over ")


def test_every_model_has_an_auc_on_every_segment_that_allows_one():
    random = np.random.default_rng(0)
    labels, scores = random.random(100) < 0.5, random.random((2, 100))
    segments = np.repeat([0, 1, 2, 4], [60, 20, 9, 11])
    labels[segments == 1] = True
    pair = PairedScores(("lens", "reclora"), np.arange(100), np.arange(100) // 5, labels, scores)
    records = compute_segments(pair, [Segmentation("part", ["many", "liked", "few", "empty", "some"], segments)])
    assert [(record["segment"], record["model"]) for record in records] == [
        (segment, model) for segment in ("many", "liked", "few", "some") for model in ("lens", "reclora")
    ]
    found = {(record["segment"], record["model"]): record for record in records}
    many = found["many", "reclora"]
    assert (many["rows"], many["users"], many["positives"]) == (60, 12, labels[:60].sum())
    assert many["auc"] == pytest.approx(roc_auc_score(labels[:60], scores[1, :60]))
    assert found["liked", "lens"]["auc"] is None
    assert found["few", "lens"]["auc"] is None
    assert found["some", "lens"]["auc"] is not None
