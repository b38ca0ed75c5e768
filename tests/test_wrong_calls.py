"""Wrong calls: each is refused in one sentence, in the words of the door that it came by.

Those over HTTP are in serving/test_app.py, beside the service that they need.
"""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from cleaned_tables import SETTINGS, add_item_texts, clean_interactions, describe_items, describe_users
from kedro_provenance.commands import provenance
from kedro_provenance.errors import Fault, Parameter, words_of
from kedro_provenance.parameters import value_faults
from reclora_kedro import Recommender
from reclora_kedro.api import words_of_scripts
from reclora_kedro.cli import own
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.new_log.command import new_log
from shop import shop

ORDERED, SOLD = shop()
LOG = ORDERED.select(user_id="customer", item_id="sku", timestamp=pl.col("bought_at").dt.epoch("s"))
THINGS = SOLD.select(item_id="sku", title="name")
RUN_ALONE = ("catalog entry", "raw_", "ingestion.", "history.", "recommendation.", "null", "load_args", "environment")
SCRIPTS_ALONE = ("columns[", "a frame", "None", "keyword", "Recommender")
fit = partial(Recommender.fit, LOG, encoders=["tfidf"], method="popularity")  # which is quick
fit_log = partial(Recommender.fit, encoders=["tfidf"], method="popularity")


def with_column(**columns):
    return fit_log(LOG.with_columns(**columns), THINGS)


def says(call, error, subject, others):
    """Check that a call is refused in a sentence that begins with its subject, and has no other door's words."""
    with pytest.raises(error) as refused:
        call()
    text = str(refused.value)
    assert text.startswith(subject), text
    assert text.endswith((".", "`")), text
    assert not [word for word in others if word in text], text


PYTHON = {
    "no table": (lambda: fit_log(None), "interactions holds nothing: a table is expected. Give a frame or the path"),
    "a number": (lambda: fit_log(3), "interactions is of type int: a table is expected. Give a frame or the path"),
    "a list": (lambda: fit_log([1, 2]), "interactions is of type list: "),
    "a dict": (lambda: fit_log({"user_id": [1]}), "interactions is of type dict: "),
    "a series": (lambda: fit_log(LOG["user_id"]), "interactions is of type Series: "),
    "an array": (lambda: fit_log(np.zeros((3, 3))), "interactions is of type ndarray: "),
    "an empty path": (lambda: fit_log(""), "interactions is an empty path. Give a frame or the path of a file"),
    "items in a list": (lambda: fit(["a"]), "items is of type list: "),
    "no rows": (lambda: fit_log(LOG.clear()), "interactions has no row, only the columns user_id, item_id, timestamp."),
    "two columns of one name": (
        lambda: fit_log(pd.concat([LOG.to_pandas()] * 2, axis=1)),
        "interactions has the column 'user_id' twice. Name each column once",
    ),
    "ids and texts in a column": (
        lambda: fit_log(LOG.to_pandas().assign(rating=[1, "x"] * (LOG.height // 2))),
        "Column 'rating' of interactions cannot be read: ",
    ),
    "dates as ids": (
        lambda: with_column(user_id=pl.date(2020, 1, 1)),
        "Column 'user_id' of interactions is of type Date (row 1 holds datetime.date(2020, 1, 1)): ids are whole "
        'numbers or text. Change `columns["user_id"]`, correct the file, or load the column with another type.',
    ),
    "lists as ids": (lambda: with_column(item_id=pl.concat_list("item_id")), "Column 'item_id' of interactions is of"),
    "fractions as ids": (lambda: with_column(user_id=pl.lit(1.5)), "Column 'user_id' of interactions is of type Float"),
    "words as ratings": (
        lambda: with_column(rating=pl.lit("good")),
        "Column 'rating' of interactions is of type String (row 1 holds 'good'): it must hold numbers. Change "
        '`columns["rating"]`',
    ),
    "structs as ratings": (lambda: with_column(rating=pl.struct("item_id")), "Column 'rating' of interactions is of"),
    "words as times": (
        lambda: with_column(timestamp=pl.lit("soon")),
        "Column 'timestamp' of interactions holds 'soon'",
    ),
    "lists as times": (
        lambda: with_column(timestamp=pl.concat_list("timestamp")),
        "Column 'timestamp' of interactions is of type List(Int64)",
    ),
    "no times": (lambda: with_column(timestamp=pl.lit(None)), "Column 'timestamp' of interactions is of type Null"),
    "milliseconds": (
        lambda: with_column(timestamp=pl.col("timestamp") * 1000),
        "Column 'timestamp' of interactions has 840 of 840 times outside",
    ),
    "lists as titles": (
        lambda: fit(THINGS.with_columns(title=pl.concat_list("title"))),
        "Column 'title' of items is of type List(String)",
    ),
    "items of another shop": (
        lambda: fit(THINGS.with_columns(pl.col("item_id") + "x")),
        "items has none of the log's item_ids: ",
    ),
    "names in a list": (lambda: fit(columns=["user_id"]), "columns is ['user_id']: a dict of names is expected. Name"),
    "an unknown name": (lambda: fit(columns={"user": "user_id"}), "columns names 'user': only user_id, item_id"),
    "a number as name": (lambda: fit(columns={"rating": 3}), 'columns["rating"] is 3: input should be a valid string.'),
    "one column for two": (
        lambda: fit(columns={"user_id": "item_id"}),
        'columns["user_id"] names the same column as `columns["item_id"]`, \'item_id\'. Give each its own column.',
    ),
    "a column that is nowhere": (
        lambda: fit(columns={"user_id": "nope"}),
        "interactions has no column 'nope', only: user_id, item_id, timestamp. Set `columns[\"user_id\"]` to one of",
    ),
    "an encoder of a catalog": (
        lambda: Recommender.fit(LOG, THINGS, encoders=["base_llm"]),
        "encoders names 'base_llm': only a project's catalog has such an entry. Name some of tfidf",
    ),
    "a name of a further column": (
        lambda: fit(columns={"rating": {"from": "timestamp", "kind": "number"}}),
        "columns.rating is a name that every log uses for something else. Choose another name.",
    ),
    "weights of numbers": (
        lambda: fit(columns={"price": {"from": "timestamp", "kind": "number", "weights": {"a": 1}}}),
        "columns.price.weights is {'a': 1.0}, and `columns.price.kind` is number: only columns of kind event have "
        "weights",
    ),
    "an unknown method": (lambda: fit(method="x"), "method is 'x': it must be one of validation, popularity"),
    "sources in a text": (lambda: fit(sources="popularity"), "sources is 'popularity': input should be a valid tuple."),
    "an unknown source": (lambda: fit(sources=["nope"]), "sources[0] is 'nope': 'nope' is unknown: choose one of"),
    "no source": (lambda: fit(sources=[]), "sources is []: tuple should have at least 1 item"),
    "a text as seed": (lambda: fit(seed="x"), "seed is 'x': input should be a valid integer"),
    "no recommended item": (lambda: fit(top_n=0), "top_n is 0: input should be greater than or equal to 1."),
    "a longer list than is kept": (lambda: fit(top_n=1000), "shortlist keeps 20 candidates of each user: `top_n` rec"),
    "no answer about repeats": (lambda: fit(repeat="x"), "repeat is 'x': input should be a valid boolean"),
    "a number as split": (lambda: fit(split=3), "split is 3: input should be a valid dictionary"),
    "a split of more than all": (
        lambda: fit(split={"train": 0.9, "validation": 0.2}),
        "split.train is 0.9, and with `split.validation` 0.2 leaves no rows to test. Lower them to a sum below 1.",
    ),
    "a misspelt key": (
        lambda: fit(split={"trian": 0.9}),
        "split.trian is not a parameter. The nearest one is `split.tr",
    ),
    "longer histories than any": (
        lambda: fit(min_history=9999),
        "min_history is 9999: none of the 840 interactions has a history of that many events of its user (at most 13). "
        "Lower it.",
    ),
    "a core of nobody": (lambda: fit(k_core=500), "interactions has no interaction left after cleaning"),
    "a threshold off the scale": (
        lambda: fit_log(LOG.with_columns(rating=3), label_threshold=9),
        "label_threshold is 9, which gives only one class on a scale from 1 to 5: it must lie above `rating_min`",
    ),
    "an unknown column to drop by": (lambda: fit(drop={"nope": [1]}), "interactions has no column 'nope', only: user_"),
    "an unfit format of times": (
        lambda: fit(timestamp_format="%Y"),
        "Column 'timestamp' of interactions has 840 of 840",
    ),
    "no ids to exclude": (lambda: fit(exclude_items=[1.5]), "exclude_items[0] is 1.5: input"),
    "no ids of strangers": (lambda: fit(unknown_ids={"user_id": [1.5]}), "unknown_ids.user_id"),
    "a word as day": (
        lambda: fit(plausible_times={"first_day": "soon"}),
        "plausible_times.first_day is 'soon': input should be a valid date",
    ),
}


@pytest.mark.parametrize(("call", "subject"), PYTHON.values(), ids=PYTHON)
def test_a_script_is_refused_in_its_own_words(call, subject):
    says(call, ValueError, subject, RUN_ALONE)


@pytest.fixture(scope="module")
def recommender():
    return fit(THINGS)


LENGTH = "the length of a list is a whole number, and at least 1."
REQUESTS = {
    **{f"n {n}": (lambda made, n=n: made.recommend("K1", n=n), f"n is {n!r}: {LENGTH}") for n in (0, "3", 2.5, None)},
    **{f"k {k}": (lambda made, k=k: made.evaluate(k=k), f"k is {k!r}: {LENGTH}") for k in (0, "a", 1.5, True)},
    "no likes": (lambda made: made.evaluate(likes=0), "likes is 0: input should be greater than or equal to 1."),
    "likes in words": (lambda made: made.evaluate(likes="many"), "likes is 'many': input should be a valid integer"),
    "one like": (lambda made: made.evaluate(likes=1), "likes is 1, which draws likes of 1 user(s)"),
    "True as user": (lambda made: made.recommend([True]), "users: True is not an id: ids are whole numbers or text."),
    "nested users": (lambda made: made.recommend([["K1"]]), "users: ['K1'] is not an id"),
    "users in a dict": (lambda made: made.recommend({"K1": 1}), "users: {'K1': 1} is not an id"),
    "a table without ids": (
        lambda made: made.recommend(pl.DataFrame({"a": ["K1"], "b": [1]})),
        "users is a table with the columns a, b. Give ids, or a table with ids in the column user_id.",
    ),
    "users and visitors": (
        lambda made: made.recommend(["K1"], histories=[[]]),
        "users are given together with histories of visitors. Call",
    ),
    "a number as histories": (lambda made: made.recommend(histories=3), "histories is of type int: each visitor has"),
    "histories in a dict": (
        lambda made: made.recommend(histories={"a": ["b"]}),
        "histories is of type dict: each visitor",
    ),
    "flat histories": (lambda made: made.recommend(histories=["sku-01"]), "histories[0] is 'sku-01': each visitor has"),
    "nested histories": (
        lambda made: made.recommend(histories=[[["sku-01"]]]),
        "histories[0]: ['sku-01'] is not an id",
    ),
    "nested items": (lambda made: made.recommend("K1", exclude=[["sku-01"]]), "exclude: ['sku-01'] is not an id"),
    "fractions as items": (lambda made: made.recommend("K1", candidates=[1.5]), "candidates: 1.5 is not an id"),
    "a word about repeats": (
        lambda made: made.recommend("K1", repeat="yes"),
        "repeat is 'yes': it must be True, False",
    ),
    "a number as events": (lambda made: made.with_events(3), "events is of type int: a table is expected. Give a fra"),
    "events without items": (
        lambda made: made.with_events(LOG.drop("item_id")),
        "events has no column 'item_id', only: user_id, timestamp. Set `columns[\"item_id\"]` to one of them.",
    ),
    "what was fitted as test": (
        lambda made: made.evaluate(test=LOG[:3]),
        "test has 3 of its 3 events in the log, such",
    ),
    "no length of similar users": (lambda made: made.similar_users(n=0), f"n is 0: {LENGTH}"),
    "a number to save to": (lambda made: made.save(3), "folder is 3: it must be the path of a folder."),
    "a number to load": (lambda made: made.load(3), "folder is 3: it must be the path of a folder."),
}


@pytest.mark.parametrize(("call", "subject"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_of_a_script_is_refused_in_its_own_words(recommender, call, subject):
    says(partial(call, recommender), ValueError, subject, RUN_ALONE)


def test_files_and_folders_are_refused_by_their_names(recommender, tmp_path):
    texts = {
        "empty.csv": "",
        "header.csv": "user_id,item_id,timestamp\n",
        "bad.parquet": "no",
        "bad.json": '{"a": 1,\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        says(partial(fit_log, tmp_path / name), ValueError, str(tmp_path / name), RUN_ALONE)
    file = tmp_path / "empty.csv"
    says(partial(fit_log, tmp_path / "none.csv"), FileNotFoundError, str(tmp_path), RUN_ALONE)
    says(partial(recommender.save, tmp_path), FileExistsError, str(tmp_path), RUN_ALONE)
    says(partial(recommender.save, file / "saved"), NotADirectoryError, str(file), RUN_ALONE)
    says(partial(recommender.load, file), FileNotFoundError, str(file), RUN_ALONE)
    (tmp_path / "recommender.json").write_text("{")
    says(partial(recommender.load, tmp_path), ValueError, str(tmp_path), RUN_ALONE)


RAW = pl.DataFrame({"u": [1, 1, 2], "i": [7, 8, 7], "r": [4.0, 2.0, 5.0], "t": [100, 200, 300]})
NAMED = pl.DataFrame({"i": [7, 8], "name": ["a", "b"]})


def settings(block=None, **changes):
    """Settings of ingestion, with changes of one of their blocks."""
    return SETTINGS | ({block: SETTINGS[block] | changes} if block else changes)


def clean(raw=RAW, **changes):
    return clean_interactions(raw, IngestionConfig(**settings("interactions", **changes)))


def describe(raw):
    return describe_items(raw, clean()[0], IngestionConfig(**SETTINGS).items)


def users_of(raw):
    config = IngestionConfig(**settings(users={"user_id": "u", "fields": []}))
    return describe_users(raw, clean()[0], config.users)


def texts_of(raw):
    config = IngestionConfig(**settings(item_texts={"item_id": "i", "fields": [{"name": "plot", "column": "p"}]}))
    return add_item_texts(NAMED, raw, config.item_texts)


def validated(block):
    try:
        IngestionConfig.model_validate(block)
    except ValidationError as error:
        raise value_faults(error, block, "ingestion", ["ingestion.k_core"]) from error


TABLE = "a table is expected. Point the catalog entry raw_interactions at another table"
RUN = {
    "no table": (lambda: clean(None), f"raw_interactions holds nothing: {TABLE}"),
    "a dict": (lambda: clean({}), f"raw_interactions is of type dict: {TABLE}"),
    "no rows": (
        lambda: clean(RAW.clear()),
        "raw_interactions has no row, only the columns u, i, r, t. Fill it, or point",
    ),
    "no users": (
        lambda: clean(RAW.drop("u")),
        "raw_interactions has no column 'u', only: i, r, t. Set `ingestion.interactions.user_id` to one of them.",
    ),
    "no ratings": (
        lambda: clean(RAW.drop("r")),
        "raw_interactions has no column 'r', only: u, i, t. Set `ingestion.interactions.rating` to one of them (null",
    ),
    "words as ratings": (
        lambda: clean(RAW.with_columns(r=pl.lit("x"))),
        "Column 'r' of raw_interactions is of type String (row 1 holds 'x'): it must hold numbers. Change "
        "`ingestion.interactions.rating`, correct the file, or load the column with another type, by load_args of the "
        "catalog entry raw_interactions.",
    ),
    "dates as ids": (lambda: clean(RAW.with_columns(u=pl.date(2020, 1, 1))), "Column 'u' of raw_interactions is of"),
    "structs as times": (lambda: clean(RAW.with_columns(t=pl.struct("u"))), "Column 't' of raw_interactions is of"),
    "another format of times": (
        lambda: clean(RAW.with_columns(t=pl.lit("1.1.2020")), timestamp_format="%Y-%m-%d"),
        "Column 't' of raw_interactions has 3 of 3 values that do not match the format '%Y-%m-%d', the first is",
    ),
    "another unit of times": (
        lambda: clean(RAW.with_columns(pl.col("t") * 10**12)),
        "Column 't' of raw_interactions has 3 of 3 times outside 1970-01-01 to 1999-12-31",
    ),
    "an unknown column to drop by": (
        lambda: clean(drop={"nope": [1]}),
        "raw_interactions has no column 'nope', only: u, i, r, t. Set `ingestion.interactions.drop` to one of them.",
    ),
    "words to drop numbers by": (lambda: clean(drop={"r": ["x"]}), "Column 'r' of raw_interactions is of type Float64"),
    "no lists to explode": (lambda: clean(explode=["i"]), "Column 'i' of raw_interactions is of type Int64"),
    "no marks of clicks": (
        lambda: clean(RAW.with_columns(r=pl.lit("maybe")), rating=None, clicked="r"),
        "Column 'r' of raw_interactions is of type String (row 1 holds 'maybe'): it must hold numbers, true and false",
    ),
    "a core of nobody": (
        lambda: clean_interactions(RAW, IngestionConfig(**settings(k_core=9))),
        "raw_interactions has no interaction left after cleaning",
    ),
    "another scale": (
        lambda: clean_interactions(
            RAW.with_columns(pl.col("r") * 20), IngestionConfig(**settings(max_ratings_outside=0))
        ),
        "Column 'r' of raw_interactions ranges from 40 to 100, and 3 of 3 rows have a rating outside 1 to 5. Set "
        "`ingestion.rating_min`, `ingestion.rating_max` and `ingestion.label_threshold` to its scale",
    ),
    "no items": (
        lambda: describe(None),
        "raw_items holds nothing: a table is expected. Point the catalog entry raw_ite",
    ),
    "no titles": (
        lambda: describe(NAMED.drop("name")),
        "raw_items has no column 'name', only: i. Set `ingestion.items.title` to one of them (null where",
    ),
    "other items": (
        lambda: describe(NAMED.with_columns(pl.col("i") + 100)),
        "raw_items has none of the log's item_ids",
    ),
    "no table of users": (lambda: users_of(None), "raw_users holds no table: `ingestion.users` names its columns. Set"),
    "other users": (lambda: users_of(pl.DataFrame({"u": [9]})), "raw_users has none of the log's user_ids: "),
    "no table of texts": (lambda: texts_of(None), "raw_item_texts holds no table: `ingestion.item_texts` names its"),
    "a word as number": (
        lambda: validated(settings(k_core="x")),
        "ingestion.k_core is 'x': input should be a valid int",
    ),
    "a misspelt key": (
        lambda: validated(settings(kcore=1)),
        "ingestion.kcore is not a parameter. The nearest one is `ingestion.k_core`.",
    ),
    "a number as block": (lambda: validated(settings(items=3)), "ingestion.items is 3: input should be a valid dict"),
    "a threshold off the scale": (
        lambda: validated(settings(label_threshold=9)),
        "ingestion.label_threshold is 9, which gives only one class on a scale from 1 to 5: it must lie above "
        "`ingestion.rating_min`, at most at `ingestion.rating_max`.",
    ),
    "ratings and clicks": (
        lambda: validated(settings("interactions", clicked="c")),
        "ingestion.interactions.rating excludes `ingestion.interactions.clicked`: a log is one of ratings or one of",
    ),
    "one column for two": (
        lambda: validated(settings("interactions", user_id="i")),
        "ingestion.interactions.user_id names the same column as `ingestion.interactions.item_id`, 'i'.",
    ),
    "no column of times": (
        lambda: validated(settings("interactions", timestamp=None)),
        "ingestion.interactions.timestamp is null: histories are ordered by time",
    ),
    "days in reverse": (
        lambda: validated(settings("plausible_times", first_day="2020-01-01", last_day="2019-01-01")),
        "ingestion.plausible_times.last_day is 2019-01-01, which is before `ingestion.plausible_times.first_day`",
    ),
}


@pytest.mark.parametrize(("call", "subject"), RUN.values(), ids=RUN)
def test_a_run_is_refused_in_its_own_words(call, subject):
    says(call, Fault, subject, SCRIPTS_ALONE)


COMMANDS = {
    "a missing file": (new_log, ["none.csv"], "Path 'none.csv' does not exist."),
    "no file": (new_log, [], "Missing argument 'TABLES...'."),
    "an empty file": (new_log, ["empty.csv", "--yes"], "empty.csv is empty. Nothing was written."),
    "a header alone": (new_log, ["header.csv", "--yes"], "header.csv has no row below its header: fill it"),
    "a single column": (new_log, ["one.csv", "--yes"], "No separator was recognised in one.csv"),
    "no parquet": (new_log, ["bad.parquet", "--yes"], "bad.parquet cannot be read: "),
    "an object": (new_log, ["object.json", "--yes"], "object.json is one JSON object, not a table."),
    "no ids": (
        new_log,
        ["weights.csv", "--yes"],
        "or write the environment by hand, as docs/guides/swap-data.md tells.",
    ),
    "an unfit name": (
        new_log,
        ["weights.csv", "--name", "a b"],
        "Invalid value for --name: 'a b' may contain only letters",
    ),
    "no project to serve": (own["serve"], [], "There is no project in "),
    "no project to forget in": (own["forget"], [], "There is no project in "),
    "no project to study": (own["study"], [], "There is no project in "),
    "a parameter without value": (own["forget"], ["--params", "forget.users"], "--params has 'forget.users': expected"),
    "a parameter twice": (own["study"], ["--params", "a=1,a=2"], "--params names a several times: give each"),
    "no YAML": (own["serve"], ["--params", "a='"], "the value is not valid YAML; to pass it as text, quote it"),
    "an unknown option": (own["study"], ["--nope"], "No such option '--nope'."),
    "no project to look into": (provenance, ["why", "x"], "This folder is not in a Kedro project. Change to one."),
    "no version to compare": (provenance, ["diff"], "Missing argument 'ONE'."),
    "a word as number": (provenance, ["gc", "--keep", "x"], "Invalid value for '--keep': 'x' is not a valid integer"),
}
FILES = {
    "empty.csv": "",
    "header.csv": "user_id,item_id,timestamp\n",
    "one.csv": "a\n1\n2\n",
    "bad.parquet": "no",
    "object.json": '{"a": {"b": 1}}',
    "weights.csv": "user_id,weight\n1,0.5\n2,0.7\n",
}


@pytest.mark.parametrize(("command", "arguments", "words"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_is_refused_in_its_own_words(command, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    assert words in result.output
    assert not [word for word in SCRIPTS_ALONE if word in result.output]


def test_warnings_have_the_words_of_scripts(caplog):
    fit(THINGS, exclude_items=["sku-98"])
    told = " ".join(caplog.messages)
    assert "1 of 1 ids and patterns of `exclude_items` match no item, such as sku-98" in told
    assert not [word for word in RUN_ALONE if word in told]


def test_a_fault_keeps_the_words_of_its_door_in_other_processes():
    def refuse():
        raise Fault(Parameter("ingestion.rating_min"), "is 9", advice=("Lower ", Parameter("ingestion.rating_max")))

    with pytest.raises(Fault) as refused, words_of(words_of_scripts):
        refuse()
    assert str(pickle.loads(pickle.dumps(refused.value))) == "rating_min is 9. Lower `rating_max`."
    with pytest.raises(Fault, match=r"ingestion\.rating_min is 9\. Lower `ingestion\.rating_max`\.$"):
        refuse()
