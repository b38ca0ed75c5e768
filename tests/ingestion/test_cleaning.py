"""Raw tables to canonical ones: rules, counts and refusals."""

from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from cleaned_tables import SETTINGS, add_item_texts, clean_interactions, counts, describe_items, describe_users
from reclora_kedro.ingestion.cleaning import k_core
from reclora_kedro.ingestion.config import IngestionConfig, ItemColumns, ItemTextColumns, TextField, UserColumns
from reclora_kedro.ingestion.events import EVENT_KEY
from reclora_kedro.ingestion.schema import Interactions, Items, Users

SOUND = [(1, 7, 4, 100), (1, 8, 3, 101), (2, 7, 5, 100)]


def config(**changes: Any) -> IngestionConfig:
    return IngestionConfig(**{**SETTINGS, **changes})


def raw_log(rows: list[tuple]) -> pl.DataFrame:
    schema = {"u": pl.Int64, "i": pl.Int64, "r": pl.Float64, "t": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def item_columns(**changes: Any) -> ItemColumns:
    return ItemColumns(**{**SETTINGS["items"], **changes})


THREE_CORE = [(user, item, 4.0, 200) for user in (1, 2, 3) for item in (7, 8, 9)]

# Few values, so that repeats, ties, gaps and faults are common.
raw_rows = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, None]),
        st.sampled_from([7, 8, 9, None]),
        st.sampled_from([0.0, 1.0, 3.0, 4.0, 5.0, 6.0, None]),
        st.sampled_from([-5, 0, 100, 101, None]),
    ),
    max_size=40,
)


class TestInteractions:
    def test_sorted_labelled_log(self) -> None:
        log, report = clean_interactions(raw_log(SOUND).reverse(), config())
        assert log.rows() == [(1, 7, 4.0, 100, 1), (2, 7, 5.0, 100, 1), (1, 8, 3.0, 101, 0)]
        assert report[-1] == {
            "check": "positives",
            "rows": 2,
            "rule": "label 1: rating >= 4; 66.7% of the rows kept",
        }

    def test_each_fault_is_counted_once_and_dropped(self) -> None:
        faulty = [
            (None, 7, None, 100),  # no user, and no rating: the first fault counts
            (1, None, 4, 100),
            (1, 7, None, 100),
            (1, 7, 0.5, 100),
            (1, 7, 5.5, 100),
            (1, 7, 4, None),
            (1, 7, 4, 0),
            (1, 7, 4, -1),
            (1, 8, 5, 101),  # a second row of an event in SOUND
        ]
        log, report = clean_interactions(raw_log(faulty + SOUND), config())
        assert counts(report) == {
            "raw interactions": 12,
            "missing user or item id": 2,
            "missing rating": 1,
            "rating outside 1 to 5": 2,
            "missing timestamp": 1,
            "timestamp not positive": 2,
            "timestamp before 1970-01-01": 0,
            "timestamp after 1999-12-31": 0,
            "repeated (user, item, timestamp)": 1,
            "outside the k-core": 0,
            "interactions": 3,
            "positives": 3,
        }
        assert log.height == 3

    @pytest.mark.parametrize(("kept", "rating"), [("highest_rating", 5.0), ("lowest_rating", 3.0)])
    def test_one_row_of_a_repeated_event_is_kept(self, kept: str, rating: float) -> None:
        rows = [(1, 8, 3, 101), (1, 8, 5, 101), (1, 8, 4, 101), (1, 8, 4, 102)]
        log, _ = clean_interactions(raw_log(rows), config(duplicates=kept))
        assert log["rating"].to_list() == [rating, 4.0]

    @settings(deadline=None)
    @given(raw_rows, st.sampled_from(["highest_rating", "lowest_rating"]), st.integers(0, 3), st.randoms())
    def test_rows_add_up_in_any_order(self, rows: list[tuple], duplicates: str, k: int, random: Any) -> None:
        rules = config(duplicates=duplicates, k_core=k)
        rows = rows + THREE_CORE
        log, report = clean_interactions(raw_log(rows), rules)
        Interactions.validate(log, lazy=True)
        kept = counts(report)
        dropped = sum(row["rows"] for row in report if row["rule"].startswith(("dropped", "off")))
        assert kept["raw interactions"] == len(rows) == dropped + kept["interactions"]
        assert kept["interactions"] == log.height
        assert kept["positives"] == log.filter(pl.col("rating") >= 4).height == log["label"].sum()

        shuffled = list(rows)
        random.shuffle(shuffled)
        log_again, report_again = clean_interactions(raw_log(shuffled), rules)
        assert log_again.sort(EVENT_KEY).equals(log.sort(EVENT_KEY))
        assert report_again == report

    def test_events_of_one_user_and_second_keep_the_order_of_the_raw_log(self) -> None:
        rows = [(2, 9, 4, 100), (1, 9, 4, 100), (1, 7, 5, 100), (1, 8, 3, 100), (1, 9, 4, 99)]
        log, _ = clean_interactions(raw_log(rows), config())
        assert log.select("user_id", "item_id").rows() == [(1, 9), (1, 9), (1, 7), (1, 8), (2, 9)]

    def test_pandas_and_lazy_frames_do_as_well(self) -> None:
        frame = raw_log([*SOUND, (1, None, 4, 100)])
        log, report = clean_interactions(frame, config())
        for other in (frame.lazy(), pd.DataFrame(frame.to_dict(as_series=False))):
            log_again, report_again = clean_interactions(other, config())
            assert log_again.equals(log)
            assert report_again == report

    def test_text_ids(self) -> None:
        frame = raw_log(SOUND).with_columns(pl.format("tt{}", "i").alias("i"))
        log, _ = clean_interactions(frame, config())
        assert Interactions.validate(log, lazy=True)["item_id"].to_list() == ["tt7", "tt7", "tt8"]

    def test_infinite_ratings_are_outside_the_scale(self) -> None:
        infinite = [(1, 7, float("inf"), 100), (1, 7, float("-inf"), 101)]
        log, report = clean_interactions(raw_log(infinite + SOUND), config())
        assert counts(report)["rating outside 1 to 5"] == 2
        with pytest.raises(SchemaErrors, match="rating"):
            Interactions.validate(log.with_columns(rating=pl.lit(float("inf"))), lazy=True)


class TestKCore:
    logs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40).map(
        lambda rows: pl.DataFrame(rows, schema={"user_id": pl.Int64, "item_id": pl.Int64}, orient="row")
    )

    @settings(deadline=None)
    @given(logs, st.integers(0, 4))
    def test_is_the_largest_fixpoint(self, log: pl.DataFrame, k: int) -> None:
        core = k_core(log.lazy(), k).collect()
        for column in ("user_id", "item_id"):
            assert (core[column].value_counts()["count"] >= k).all()
        assert k_core(core.lazy(), k).collect().equals(core)
        if k <= 1:
            assert core.equals(log)
        assert core.height >= k_core(log.lazy(), k + 1).collect().height
        # Peeled off row by row, whatever the order, the same rows are left.
        rows = log.rows()
        while k > 1 and (weak := next((r for r in rows if min(_rows_of(rows, r, 0), _rows_of(rows, r, 1)) < k), None)):
            rows.remove(weak)
        assert sorted(rows) == sorted(core.rows())


def _rows_of(rows: list[tuple], row: tuple, place: int) -> int:
    return sum(other[place] == row[place] for other in rows)


class TestItems:
    log, _ = clean_interactions(raw_log([(1, 7, 4, 100), (1, 9, 4, 101)]), config())

    def test_every_item_of_log_and_table_has_one_row(self) -> None:
        table = pl.DataFrame({"i": [8, 7, None, 7, 6], "name": ["b", "a", "nobody", "second a", "  "]})
        items, report = describe_items(table, self.log, item_columns())
        assert Items.validate(items, lazy=True).rows() == [
            (6, "Unknown title"),
            (7, "a"),
            (8, "b"),
            (9, "Unknown title"),
        ]
        assert counts(report) == {
            "raw items": 5,
            "item rows without an id": 1,
            "item rows with HTML": 0,
            "repeated item rows": 1,
            "items without a row": 1,
            "items with an empty title": 1,
            "items": 4,
        }

    def test_text_fields(self) -> None:
        table = pl.DataFrame(
            {
                "i": [7, 8, 9],
                "name": ["a", "b", "c"],
                "Action": [1, 0, 1],
                "Film-Noir": [1, 0, 0],
                "tags": ["x| y |", "", None],
                "year": [1995.0, None, 2001.0],
            }
        )
        fields = [
            {"name": "genres", "indicators": ["Action", "Film-Noir"]},
            {"name": "tags", "column": "tags", "separator": "|"},
            {"name": "year", "column": "year"},
        ]
        items, _ = describe_items(table, self.log, item_columns(fields=fields))
        assert Items.validate(items, lazy=True).drop("title").rows() == [
            (7, "Action, Film-Noir", "x, y", "1995"),
            (8, None, None, None),
            (9, "Action", None, "2001"),
        ]

    @pytest.mark.parametrize("as_table", [lambda frame: frame, pl.DataFrame.to_pandas])
    def test_lists_of_texts(self, as_table: Any) -> None:
        table = pl.DataFrame(
            {"i": [7, 8, 9], "name": ["a", "b", "c"], "tags": [["Home &amp; Garden", " ", "x"], [], None]}
        )
        fields = [{"name": "tags", "column": "tags", "values": {"x": "Box"}}]
        items, _ = describe_items(as_table(table), self.log, item_columns(fields=fields))
        assert items["tags"].to_list() == ["Home & Garden, Box", None, None]

    def test_html_is_read_and_counted_by_row(self) -> None:
        table = pl.DataFrame(
            {
                "i": [7, 8, 9],
                "name": ["Net &amp; Web, The", "<br />", "c"],
                "tags": ["a &lt; b;<b>c</b>", "x", "y & z"],
                "unused": "&amp;",
            }
        )
        fields = [{"name": "tags", "column": "tags", "separator": ";"}]
        items, report = describe_items(table, self.log, item_columns(fields=fields))
        assert items["title"].to_list() == ["The Net & Web", "Unknown title", "c"]
        assert counts(report)["item rows with HTML"] == 2
        assert counts(report)["items with an empty title"] == 1

    def test_coded_values_become_words(self) -> None:
        table = pl.DataFrame(
            {"i": [7, 8, 9], "name": ["a", "b", "c"], "code": [1, 2, 3], "tags": ["sf|x", "(none)", "(none)|sf"]}
        )
        fields = [
            {"name": "kind", "column": "code", "values": {"1": "film", "3": ""}},
            {"name": "tags", "column": "tags", "separator": "|", "values": {"sf": "Sci-Fi", "(none)": ""}},
        ]
        items, _ = describe_items(table, self.log, item_columns(fields=fields))
        assert items.drop("title").rows() == [(7, "film", "Sci-Fi, x"), (8, "2", None), (9, None, "Sci-Fi")]

    def test_lists_written_as_text_are_taken_apart(self) -> None:
        table = pl.DataFrame({"i": [7, 8, 9], "name": "a", "tags": ["['a, b', 'c &amp; d']", '["e", null, 5]', ""]})
        columns = item_columns(fields=[{"name": "tags", "column": "tags", "separator": "[]"}])
        items, _ = describe_items(table, self.log, columns)
        assert items["tags"].to_list() == ["a, b, c & d", "e, 5", None]
        for text in ("a|b", "{'a': 1}", "[['a']]", "__import__('os')", "[" * 9_999):
            with pytest.raises(ValueError, match=r"'tags' of raw_items.* \(row 1 holds .*looks like \['a', 'b'\]"):
                describe_items(table.with_columns(tags=pl.lit(text)), self.log, columns)

    def test_a_row_per_property_is_gathered_by_item(self) -> None:
        rows = [
            (7, "kind", "film"),
            (7, "name", "Net, The"),
            (7, "kind", "play"),
            (8, "kind", "film"),
            (7, "kind", "film"),
        ]
        table = pl.DataFrame([*rows, (8, "unused", "x"), (None, "name", "y")], schema=["i", "p", "v"], orient="row")
        long = {"property": "p", "value": "v"}
        fields = [{"name": "kinds", "column": "kind"}]
        items, report = describe_items(table, self.log, item_columns(long=long, fields=fields))
        assert items.filter(pl.col("item_id") < 9).rows() == [
            (7, "The Net", "film, play"),
            (8, "Unknown title", "film"),
        ]
        assert counts(report) | {"raw item properties": 7, "raw items": 2, "items with an empty title": 1} == counts(
            report
        )
        with pytest.raises(
            ValueError, match="no property 'title' in column 'p': the first ones are kind, name, unused"
        ):
            describe_items(table, self.log, item_columns(long=long, title="title"))

    def test_without_titles_ids_stand_in(self) -> None:
        items, _ = describe_items(None, self.log, item_columns(title=None))
        assert items.rows() == [(item, str(item)) for item in self.log["item_id"].unique().sort()]
        fields = [{"name": "kind", "column": "kind"}]
        items, _ = describe_items(
            pl.DataFrame({"i": [7], "kind": ["film"]}), self.log, item_columns(title=None, fields=fields)
        )
        assert items["title"].to_list() == [str(item) for item in items["item_id"]]

    @pytest.mark.parametrize(
        ("title", "expected"),
        [
            ("Matrix, The (1999)", "The Matrix (1999)"),
            ("Clockwork Orange, A", "A Clockwork Orange"),
            ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly (1966)"),
            ("Horseman, The (Hussard sur le toit, Le) (1995)", "The Horseman (Le Hussard sur le toit) (1995)"),
            ("Killer (Killer, The) (1989)", "Killer (The Killer) (1989)"),
            ("Bye Bye, Love (1995)", "Bye Bye, Love (1995)"),
            ("The Bank (1915)", "The Bank (1915)"),
        ],
    )
    def test_trailing_articles(self, title: str, expected: str) -> None:
        table = pl.DataFrame({"i": [7], "name": [title]})
        items, _ = describe_items(table, self.log, item_columns())
        assert items["title"][0] == expected
        items, _ = describe_items(table, self.log, item_columns(trailing_articles=[]))
        assert items["title"][0] == title


class TestItemTexts:
    items = pl.DataFrame({"item_id": [7, 8, 9], "title": ["a", "b", "c"]})
    columns = ItemTextColumns(item_id="id", fields=[TextField(name="description", column="plot")])

    def test_join_the_items_by_id(self) -> None:
        table = pd.DataFrame({"id": [9.0, 7.0, None, 7.0, 5.0], "plot": [" ", "A &amp; B", "x", "second", "none's"]})
        items, report = add_item_texts(self.items, table, self.columns)
        assert Items.validate(items, lazy=True).rows() == [(7, "a", "A & B"), (8, "b", None), (9, "c", None)]
        assert counts(report) == {
            "raw item texts": 5,
            "item text rows without an id": 1,
            "repeated item text rows": 1,
            "item text rows with HTML": 1,
            "items without item texts": 1,
        }

    def test_no_second_table(self) -> None:
        assert add_item_texts(self.items, None, None) == (self.items, [])


class TestUsers:
    log, _ = clean_interactions(raw_log([(1, 7, 4, 100), (3, 9, 4, 101)]), config())
    columns = UserColumns(user_id="u", fields=[TextField(name="age", column="years")])

    def test_every_user_of_the_log_has_one_row(self) -> None:
        table = pd.DataFrame({"u": [2, 1, 1], "years": [30.0, 24.0, 99.0]})
        users, report = describe_users(table, self.log, self.columns)
        assert Users.validate(users, lazy=True).rows() == [(1, "24"), (3, None)]
        assert counts(report) == {
            "raw users": 3,
            "user rows without an id": 0,
            "user rows with HTML": 0,
            "repeated user rows": 1,
            "users without an interaction": 1,
            "users without a profile": 1,
            "users": 2,
        }

    def test_no_user_table(self) -> None:
        users, report = describe_users(None, self.log, None)
        assert Users.validate(users, lazy=True).rows() == [(1,), (3,)]
        assert report == [{"check": "users", "rows": 2, "rule": "rows kept; no user table, ids only"}]


ITEM_LOG, _ = clean_interactions(raw_log([(1, 7, 4, 100), (1, 9, 4, 101)]), config())
ACTION = [{"name": "genres", "indicators": ["Action"]}]
NO_COLUMN = {
    name: rf"raw_interactions has no column '{name}'.*`ingestion.interactions.{key}`"
    for key, name in SETTINGS["interactions"].items()
}


def items_of(ids: list, **changes: Any) -> tuple:
    return pl.DataFrame({"i": ids, "name": "a"}), ITEM_LOG, item_columns(**changes)


def texts_of(ids: list) -> tuple:
    return TestItemTexts.items, pl.DataFrame({"id": ids, "plot": "x"}), TestItemTexts.columns


REFUSED = {
    **{f"no {name}": (clean_interactions, (raw_log(SOUND).drop(name), config()), NO_COLUMN[name]) for name in "uirt"},
    "each row has a fault": (
        clean_interactions,
        (raw_log([(1, 7, 9, 100), (1, 8, 4, 0)]), config()),
        r"rating outside 1 to 5: 1; timestamp not positive: 1.*`ingestion.rating_min`",
    ),
    "no core": (clean_interactions, (raw_log(SOUND), config(k_core=3)), r"outside the k-core: 3.*`ingestion.k_core`"),
    "no row": (clean_interactions, (raw_log([]), config()), "raw_interactions has no row, only the columns u, i, r, t"),
    "no column of a field": (
        describe_items,
        items_of([7], fields=ACTION),
        r"raw_items has no column 'Action'.*`ingestion.items.fields\[genres\]`",
    ),
    **{
        f"items {ids}": (
            describe_items,
            items_of(ids),
            r"raw_items has none of the log's item_ids: .*Int64.*7, 9, .*" + end,
        )
        for ids, end in ((["x"], "and the table has no id"), ([70, 90], "and the table has 70, 90"))
    },
    "padded items": (describe_items, items_of(["7", "09"]), r"row 2 holds '09'.*ids of this log are .*: write 9"),
    **{
        f"texts of {ids}": (
            add_item_texts,
            texts_of(ids),
            r"raw_item_texts has none of .*`ingestion.item_texts.item_id`",
        )
        for ids in (["x"], [70])
    },
    "no texts": (add_item_texts, (TestItemTexts.items, None, TestItemTexts.columns), "`ingestion.item_texts` to null"),
    "no users": (describe_users, (None, TestUsers.log, TestUsers.columns), "`ingestion.users` to null"),
    "other users": (
        describe_users,
        (pl.DataFrame({"u": [5], "years": [1]}), TestUsers.log, TestUsers.columns),
        "raw_users has none of the log's user_ids",
    ),
}
"""By what is wrong: the function that refuses it, its arguments, and what the refusal says."""


@pytest.mark.parametrize(("clean", "arguments", "pattern"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_log_is_refused(clean: Any, arguments: tuple, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        clean(*arguments)
