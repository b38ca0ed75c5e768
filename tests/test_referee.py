"""The referee: its figures beside those of loops, and each audit on lists that were made for it."""

import doctest
import json
import re

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from projects import ROOT
from reclora_kedro import cli
from reclora_kedro.evaluation.bootstrap import holm
from reclora_kedro.referee import BY_IDS, LISTS, WITH_TEXTS, measure
from shop import CUSTOMERS, shop

ORDERED, SOLD = shop()
LOG = ORDERED.select(user_id="customer", item_id="sku", timestamp=pl.col("bought_at").dt.epoch("s"))
THINGS = SOLD.select(item_id="sku", title="name")
LAST = LOG.sort("timestamp").unique("user_id", keep="last", maintain_order=True)
ITEMS, PLACES = THINGS["item_id"].to_list(), 10


def random_lists(seed=0):
    random = np.random.default_rng(seed)
    rows = [
        (user, rank, ITEMS[item])
        for user in LAST["user_id"]
        for rank, item in enumerate(random.permutation(len(ITEMS))[:PLACES].tolist(), 1)
    ]
    return pl.DataFrame(rows, ["user_id", "rank", "item_id"], orient="row")


def counts(lists, **settings):
    audit = measure(lists, LOG, THINGS, **settings).audit
    return {check: (count, of) for check, count, of in audit.select("check", "count", "of").rows()}


@pytest.fixture(scope="module")
def measured():
    return measure(random_lists(), LOG, THINGS)


def test_figures_are_those_of_loops(measured):
    lists = {user: group["item_id"].to_list() for (user,), group in random_lists().group_by("user_id")}
    hits, gains, reciprocals = [], [], []
    for user, item in LAST.select("user_id", "item_id").rows():
        rank = lists[user].index(item) + 1 if item in lists[user] else None
        hits.append(rank is not None)
        gains.append(0 if rank is None else 1 / np.log2(1 + rank))
        reciprocals.append(0 if rank is None else 1 / rank)
    row = measured.metrics.row(by_predicate=pl.col("model") == LISTS, named=True)
    assert row["rows"] == row["users"] == CUSTOMERS
    for name, values in (("hit_rate", hits), ("ndcg", gains), ("mrr", reciprocals)):
        assert row[name] == pytest.approx(np.mean(values))
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
        half = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
        assert half == pytest.approx(2.001 * np.std(values, ddof=1) / np.sqrt(CUSTOMERS), rel=0.1)
    known = LOG.join(LAST, on=["user_id", "item_id"], how="anti")["item_id"].value_counts()
    popularity = dict(known.rows())
    assert row["popularity"] == pytest.approx(np.mean([popularity[item] for each in lists.values() for item in each]))
    assert row["coverage"] == len({item for each in lists.values() for item in each}) / len(ITEMS)


def test_differences_are_paired_and_corrected(measured):
    ndcg = dict(measured.metrics.select("model", "ndcg").rows())
    differences = measured.differences
    assert differences["baseline"].to_list() == ["popularity", BY_IDS, WITH_TEXTS]
    for model, gain, low, high in differences.select(pl.nth(0, 1, 2, 3)).rows():
        assert gain == pytest.approx(ndcg[LISTS] - ndcg[model])
        assert low < gain < high
    assert differences["p_adjusted"].to_list() == holm(differences["p_value"].to_numpy()).tolist()
    assert ndcg[BY_IDS] > ndcg[LISTS]  # customers of coffee buy coffee


def test_rows_of_a_file_test_as_the_last_likes_that_they_are(measured, tmp_path):
    file = tmp_path / "last.csv"
    LAST.select("user_id", "item_id").write_csv(file)
    for log in (LOG, LOG.join(LAST, on=["user_id", "item_id"], how="anti")):
        again = measure(random_lists(), log, THINGS, split=file)
        assert_frame_equal(again.metrics, measured.metrics)
    without_titles = measure(random_lists(), LOG)
    assert without_titles.metrics["model"].to_list() == [LISTS, "popularity", BY_IDS]


def test_one_list_serves_all_likes_of_the_last_tenth():
    late = LOG.sort("timestamp")["timestamp"][int(0.9 * LOG.height)]
    measured = measure(random_lists(), LOG, THINGS, split="time")
    likes = LOG.filter(pl.col("timestamp") >= late)
    known = LOG.filter(pl.col("timestamp") < late)
    likes = likes.join(known.select("user_id").unique(), on="user_id", how="semi")
    found = likes.join(random_lists(), on=["user_id", "item_id"], how="semi").height
    row = measured.metrics.row(by_predicate=pl.col("model") == LISTS, named=True)
    assert (row["rows"], row["users"]) == (likes.height, likes["user_id"].n_unique())
    assert row["hit_rate"] == pytest.approx(found / likes.height)


def test_audits_count_what_is_odd():
    whole = random_lists().filter(pl.col("user_id") != LAST["user_id"][0])
    user, other = LAST["user_id"][1], LAST["user_id"][2]
    own, rest = whole.filter(user_id=user), whole.filter(pl.col("user_id") != user)
    plain = counts(rest)
    assert plain["users without a list"] == (2, CUSTOMERS)
    assert plain["lists of fewer than 10 items"] == (0, CUSTOMERS)
    assert plain["repeated items in a list"] == (0, rest.height)
    assert plain["listed items outside the catalogue"] == (0, rest.height)
    assert plain["equal ranks or scores in a list"] == (0, rest.height)
    assert plain["rows of users who are not tested"] == (0, rest.height)
    taken = rest.join(LOG.join(LAST, on=["user_id", "item_id"], how="anti"), on=["user_id", "item_id"], how="semi")
    assert plain["listed items that the user took"] == (taken.height, rest.height)
    most = rest["item_id"].value_counts()["count"].max()
    assert plain["lists with the most frequent item"] == (most, CUSTOMERS)

    new = next(item for item in ITEMS if item not in LOG.filter(user_id=user)["item_id"].to_list())
    odd = pl.DataFrame(
        [(user, 1, new), (user, 2, new), (user, 2, f" {new}"), (user, 4, "sku-99"), ("nobody", 1, new)],
        ["user_id", "rank", "item_id"], orient="row",
    )  # fmt: skip
    found = counts(pl.concat([rest, odd]))
    total = rest.height + 4
    assert found["users without a list"] == (1, CUSTOMERS)
    assert found["lists of fewer than 10 items"] == (1, CUSTOMERS)
    assert found["repeated items in a list"] == (2, total)
    assert found["listed items outside the catalogue"] == (1, total)
    assert found["equal ranks or scores in a list"] == (2, total)
    assert found["rows of users who are not tested"] == (1, total + 1)
    assert found["items whose id is written in several ways"][0] == 1
    assert found["listed items that the user took"] == (taken.height, total)

    scored = own.with_columns(score=pl.when(pl.col("rank") < 4).then(1.0).otherwise(-pl.col("rank").cast(pl.Float64)))
    assert counts(scored)["equal ranks or scores in a list"] == (3, own.height)
    last = own.with_columns(pl.col("rank").replace({4: 3}))  # the order of the file decides who is third
    assert counts(last, k=3)["equal ranks or scores in a list"] == (1, 3)
    assert other != user


def test_audits_of_the_split_and_of_titles():
    twins = THINGS.with_columns(title=pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("one mug")).otherwise("title"))
    lists = random_lists()
    audit = dict(measure(lists, LOG, twins).audit.select("check", "count").rows())
    both = lists.filter(pl.col("item_id").is_in(ITEMS[:2])).group_by("user_id").len().filter(len=2).height
    assert audit["listed items with the title of another one"] == 2 * both > 0
    held = LAST["item_id"].is_in(ITEMS[:2]).sum()
    assert audit["test likes of items with the title of another item"] == held
    tied = LOG.with_columns(pl.col("timestamp") // 10**6 * 10**6)
    audit = dict(measure(lists, tied, THINGS).audit.select("check", "count").rows())
    same = tied.join(tied.group_by("user_id").agg(pl.col("timestamp").max()), on=["user_id", "timestamp"])
    assert audit["events in the same second as the test like"] == same.height - CUSTOMERS > 0
    rows = pl.DataFrame({"user_id": [*LAST["user_id"], "nobody"], "item_id": [*LAST["item_id"], ITEMS[0]]})
    audit = dict(measure(lists, LOG, THINGS, split=rows).audit.select("check", "count").rows())
    assert audit["rows of the split with an unknown user or item"] == 1
    repeats = measure(lists, LOG, THINGS, repeat=True).audit
    assert repeats.filter(check="listed items that the user took")["reading"][0] == "is allowed"


def test_lists_that_know_the_test_likes_are_told(caplog, measured):
    hits = round(measured.metrics["hit_rate"][0] * CUSTOMERS)
    assert measured.audit.row(0) == ("test likes on their user's list", hits, CUSTOMERS, "the hits")
    knowing = random_lists().join(LAST.select("user_id", "item_id"), on=["user_id", "item_id"], how="anti")
    audit = measure(knowing, LOG, THINGS).audit
    assert audit["reading"][0].startswith("no hit: lists that were made with the test likes")
    assert "No list has a test like" in caplog.text


@pytest.mark.parametrize(
    ("lists", "settings", "message"),
    [
        (random_lists().drop("rank"), {}, "has the columns user_id, item_id, but no rank"),
        (random_lists().with_columns(rank=pl.lit("first")), {}, "has the rank 'first' in row 1"),
        (random_lists(), {"k": 0}, "k is 0"),
        (random_lists(), {"split": LAST.head(1)}, "likes of 1 user"),
        (random_lists(), {"columns": {"timestamp": None}, "split": "time"}, "the log has no times"),
    ],
)
def test_what_cannot_be_measured_is_told(lists, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        measure(lists, LOG, THINGS, **settings)


def test_the_command_prints_and_keeps_the_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_lists().rename({"user_id": "user", "item_id": "item"}).write_parquet("lists.parquet")
    ORDERED.write_csv("orders.csv")
    SOLD.write_csv("products.csv")
    words = ["measure", "lists.parquet", "--log", "orders.csv", "--items", "products.csv", "--json", "measured.json"]
    done = CliRunner().invoke(cli.cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert BY_IDS in done.output
    tables = json.loads((tmp_path / "measured.json").read_text())
    assert [row["model"] for row in tables["metrics"]] == [LISTS, "popularity", BY_IDS, WITH_TEXTS]
    assert [*tables] == ["metrics", "differences", "audit"]
    missing = CliRunner().invoke(cli.cli, [*words[:-2], "--split", "none.csv"])
    assert missing.exit_code == 1
    assert "none.csv does not exist" in missing.output


def test_the_examples_of_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ORDERED.write_csv("orders.csv")
    SOLD.write_csv("products.csv")
    text = re.sub(r"^```.*$", "", (ROOT / "docs/guides/measure.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, "measure.md", None, 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples).failed == 0
