import polars as pl
import pytest

from reclora_kedro.history.questions import SPLITS, PromptRowsConfig, draw_questions, questions
from reclora_kedro.history.splits import SplitConfig, split_of

COLUMNS = {
    "row": pl.UInt32,
    "use": pl.String,
    "label": pl.Int8,
    "user_index": pl.Int32,
    "item_index": pl.Int32,
    "history_end": pl.Int64,
    "timestamp": pl.Int64,
}


def samples(rows: int = 400, users: int = 3) -> pl.DataFrame:
    place = pl.int_range(rows, eager=True)
    columns = {
        "row": place,
        "label": place // users % 2,
        "user_index": place % users,
        "item_index": place % 7,
        "history_end": place // 2,
        "timestamp": place + 5,
    }
    table = pl.DataFrame(columns, schema={name: COLUMNS[name] for name in columns})
    config = SplitConfig(kind="global_time", train=0.8, validation=0.1)
    return table.with_columns(split=split_of(pl.int_range(pl.len()), *config.bounds(rows)))


def draw(seed: int = 1, **counts: int | None) -> pl.DataFrame:
    config = PromptRowsConfig(**{"unit": "rows", "few_shot": 20, "validation": 10, "test": 15, **counts})
    return draw_questions(samples(), SPLITS, config, seed)


def rows_of(drawn: pl.DataFrame, use: str) -> list[int]:
    return drawn.filter(pl.col("use") == use)["row"].to_list()


def test_questions_are_drawn_from_their_split_once_and_in_order():
    divided, drawn = samples(), draw()
    assert drawn.schema == COLUMNS
    assert drawn["use"].rle().struct.unnest().rows() == [(20, "few_shot"), (10, "validation"), (15, "test")]
    for use, split in (("few_shot", "train"), ("validation", "validation"), ("test", "test")):
        rows = rows_of(drawn, use)
        assert rows == sorted(set(rows))
        assert set(divided["split"].gather(rows)) == {split}
    assert drawn.drop("use").equals(divided[drawn["row"]].select(drawn.drop("use").columns))


def test_a_draw_depends_on_its_seed_alone():
    assert draw().equals(draw())
    assert not draw().equals(draw(seed=2))


def test_the_count_of_one_use_leaves_the_others_alone_and_grows_by_adding_rows():
    small, large = draw(), draw(few_shot=200)
    assert rows_of(small, "test") == rows_of(large, "test")
    assert rows_of(small, "validation") == rows_of(large, "validation")
    assert set(rows_of(small, "few_shot")) < set(rows_of(large, "few_shot"))


def test_every_row_is_as_likely_as_any_other():
    counts = [0] * 320
    for seed in range(300):
        for row in rows_of(draw(few_shot=160, seed=seed), "few_shot"):
            counts[row] += 1
    # 300 draws at probability 1/2: mean 150, standard deviation 8.7.
    assert min(counts) > 110
    assert max(counts) < 190


def test_null_takes_a_splits_every_row():
    assert rows_of(draw(test=None), "test") == list(range(360, 400))


def test_more_rows_than_a_split_has_are_refused_to_learn_from_and_else_all_are_taken(caplog):
    with pytest.raises(ValueError, match=r"history.prompt_rows.few_shot requests 321 rows: the train split has 320"):
        draw(few_shot=321)
    for use in ("validation", "test"):
        assert rows_of(draw(**{use: 41}), use) == rows_of(draw(**{use: None}), use)
        assert f"`history.prompt_rows.{use}` is 41 rows, but the {use} split has 40: all are taken." in caplog.messages


def impressions(moments: int = 60, shown: int = 5) -> pl.DataFrame:
    """Samples of impressions with one like each, two users' in turn, the last ones of both at the same second."""
    place = pl.int_range(moments * shown, eager=True)
    return pl.DataFrame(
        {
            "row": place,
            "label": place % shown == 2,
            "user_index": place // shown % 2,
            "item_index": place % 7,
            "history_end": place // shown,
            "timestamp": place // shown // 2,
            "split": pl.Series(["train"] * 200 + ["validation"] * 50 + ["test"] * 50),
        },
    ).cast({name: kind for name, kind in COLUMNS.items() if name != "use"})


def test_impressions_are_drawn_whole_until_they_hold_as_many_likes():
    log = impressions()
    config = PromptRowsConfig(unit="likes", few_shot=7, validation=3, test=None)
    drawn = draw_questions(log, SPLITS, config, 1)
    moments = drawn.group_by("use", "user_index", "timestamp", maintain_order=True).agg(pl.len(), pl.col("label").sum())
    assert (moments.select("len", "label").unique().rows(), moments.height) == ([(5, 1)], 7 + 3 + 10)
    more = draw_questions(log, ["few_shot"], config.model_copy(update={"few_shot": 20}), 1)
    assert set(rows_of(drawn, "few_shot")) < set(more["row"])
    with pytest.raises(ValueError, match=r"prompt_rows.few_shot requests 41 likes: the train split has 40\. "):
        draw_questions(log, SPLITS, config.model_copy(update={"few_shot": 41}), 1)


def test_the_draw_of_some_uses_is_that_of_all_of_them():
    config = PromptRowsConfig(unit="rows", few_shot=20, validation=10, test=15)
    for use in SPLITS:
        assert draw_questions(samples(), [use], config, 1).equals(draw().filter(pl.col("use") == use))


def test_pairs_without_a_label_are_candidates_whose_label_nobody_knows():
    asked = questions(samples().drop("label"))
    assert asked.schema == COLUMNS
    assert asked["use"].unique().to_list() == ["candidate"]
    assert asked["label"].null_count() == asked.height
