"""The Recommender from Python: frames in, frames out, as the pipelines make them."""

import doctest
import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from inspect import signature

import numpy as np
import polars as pl
import pytest

from damaging import damaged_folders
from projects import ROOT
from public_logs import TITLES
from reclora_kedro import Recommender
from reclora_kedro.candidates import linear
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.recommendation.delivery import lists_for_users
from reclora_kedro.sealed import seal
from shop import CUSTOMERS, ORDERS, PRODUCTS, shop
from small_logs import SHAPES

ORDERED, SOLD = shop()
LOG = ORDERED.select(user_id="customer", item_id="sku", timestamp=pl.col("bought_at").dt.epoch("s"))
THINGS = SOLD.select(item_id="sku", title="name")
fit = partial(Recommender.fit, encoders=["tfidf"])  # which needs no torch
fit_knn = partial(fit, method="item_knn")


@pytest.fixture(scope="module")
def recommender():
    return fit(LOG, THINGS)


def test_lists_are_those_of_the_step(recommender):
    made = Recommender.from_choice(Training.from_log(recommender.log), recommender.choice, recommender.config)
    users = ["K7", "nobody", "K1"]
    expected, _ = lists_for_users(made, users, limit=20)
    expected = expected.filter(pl.int_range(pl.len()).over("user_id") < 10)
    lists = recommender.recommend(users, n=10)
    assert lists.columns == ["user_id", "rank", "item_id", "title", "score", "because"]
    assert lists.drop("rank").equals(expected.select(lists.drop("rank").columns))
    assert lists["rank"].to_list() == [*range(1, 11)] * 3
    assert recommender.recommend()["user_id"].n_unique() == CUSTOMERS


def test_fit_tells_that_lists_are_alike(caplog):
    fit(LOG, THINGS, method="popularity")
    assert "Nearly everyone gets the same items: two users share " in caplog.text


def test_a_recommender_shows_itself_in_six_lines(recommender):
    lines = repr(recommender).splitlines()
    assert len(lines) == 6
    assert lines[0] == f"Recommender: lists are made by {recommender.choice.name}"
    assert f"{recommender.log.users.height:,} users, {recommender.log.items.height:,} items, " in lines[4]
    share = recommender.choice.at_test_moments.most_frequent
    assert f"{share:.0%} have the most frequent item" in lines[2]
    choice = recommender.choice.model_copy(update={"reason": "<b>"})
    page = replace(recommender, choice=choice)._repr_html_()
    assert "&lt;b&gt;" in page
    assert all(f"<th>{line.strip().partition(': ')[0]}</th>" in page for line in lines[1:])


def test_tab_offers_what_scripts_call(recommender):
    public = {name for name in dir(recommender) if not name.startswith("_")}
    assert public >= {"fit", "recommend", "similar_items", "evaluate", "save", "load"}
    assert not public & {"from_choice", "list_maker", "as_measured", "knn", "moments", "ingestion", "later_events"}


def test_keywords_of_fit_complete_and_the_guide_names_them_all():
    typed = {*signature(Recommender.fit).parameters} - {"interactions", "items", "columns", "settings"}
    assert {"sources", "method", "encoders", "repeat", "exclude_items", "label_threshold", "seed"} <= typed
    table = (ROOT / "docs/guides/python.md").read_text("utf-8").partition("| keyword | |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert typed <= {name for row in rows for name in re.findall("`([a-z_]+)`", row)}


def test_visitors_get_the_lists_of_users_with_their_events():
    by_knn = fit_knn(LOG, THINGS, popularity={"days": []})
    own = LOG.filter(user_id="K1")["item_id"].to_list()
    visitors, user = by_knn.recommend(histories=[[], own], n=5), by_knn.recommend("K1", n=5)
    assert visitors["user_id"].to_list() == [0] * 5 + [1] * 5
    assert visitors.filter(user_id=1).drop("user_id").equals(user.drop("user_id"))
    popular = visitors.filter(user_id=0)
    assert popular["score"].null_count() == 5
    assert popular["item_id"].equals(by_knn.recommend("nobody", n=5)["item_id"])


def test_new_items_are_found_by_their_texts_as_in_a_fit_to_the_grown_table_and_prices_change(tmp_path):
    settings = {"method": "item_knn", "item_knn": {"text_weights": [1.0]}, "columns": {"price": {"kind": "number"}}}
    priced = THINGS.with_columns(price=pl.lit(9.0))
    before = fit(LOG, priced, **settings)
    like, title = THINGS.row(0)
    changes = pl.DataFrame(
        {"item_id": ["zz-new", like], "title": [f"<b>{title}</b> [MASK]", None], "price": [None, 3.0]}
    )
    grown = before.with_items(changes)
    assert before.log.items.height == THINGS.height
    assert grown.log.items.row(-1, named=True) == {"item_id": "zz-new", "title": f"{title} [MASK]", "price": None}
    assert grown.recommend(n=99, filter={"price": {"max": 5}})["item_id"].unique().to_list() == [like]
    anew = grown.from_choice(Training.from_log(grown.log), before.choice, before.config)
    assert grown.recommend(n=5).equals(anew.recommend(n=5))
    assert "zz-new" in grown.similar_items(like, n=3)["similar_id"]
    np.testing.assert_array_equal(grown.log.item_embeddings[:-1], before.log.item_embeddings)
    vectors = grown.log.item_text_vectors()
    np.testing.assert_allclose(vectors[-1], vectors[0], atol=1e-6)  # "[MASK]" is no word of before, but data
    grown.save(tmp_path / "saved")
    loaded = Recommender.load(tmp_path / "saved")
    assert loaded.with_items(changes).recommend(n=5).equals(grown.recommend(n=5))


@pytest.mark.parametrize("source", ["popularity", "item_knn", "linear"])
def test_lists_after_new_items_are_those_of_a_fit_to_the_grown_table(recommender, source):
    settings = {"linear": {"text_weight": 0.8, "regularization": 30.0}}.get(source, {})
    choice = recommender.choice.model_copy(update={"kind": source, "sources": {source: settings}})
    before = Recommender.from_choice(Training.from_log(recommender.log), choice, recommender.config)
    new = pl.DataFrame({"item_id": ["zz-1", "zz-2"], "title": [f"{THINGS['title'][0]} anew", "Unheard of"]})
    of_grown_table = fit(LOG, pl.concat([THINGS, new]))
    anew = Recommender.from_choice(Training.from_log(of_grown_table.log), choice, recommender.config)
    assert before.with_items(new).recommend(n=99).equals(anew.recommend(n=99))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"item_id": "new", "title": "A", "colour": "red"}, "has a column 'colour', but"),
        ({"item_id": "new"}, "has no title of the new item 'new'"),
        ({"item_id": None, "title": "A"}, "whose item_id is missing"),
    ],
)
def test_unfit_items_are_refused(recommender, row, words):
    with pytest.raises(ValueError, match=re.escape(words.removesuffix(", but"))):
        recommender.with_items(pl.DataFrame([row], schema_overrides={"item_id": pl.String}))


@pytest.mark.parametrize("repeat", [None, True])
def test_scores_of_pairs_are_those_of_lists(recommender, repeat, monkeypatch):
    monkeypatch.setattr("reclora_kedro.api.MOMENTS_AT_ONCE", 7)  # so that users come in several parts
    lists = recommender.recommend(n=recommender.log.items.height, repeat=repeat).sample(
        fraction=1.0, shuffle=True, seed=0
    )
    pairs = recommender.score(lists["user_id"], lists["item_id"], repeat=repeat)
    assert pairs.equals(lists.select("user_id", "item_id", "score"))
    assert pairs["score"].n_unique() > 100


def test_pairs_without_a_list_have_no_score(recommender, caplog):
    taken = LOG.filter(user_id="K1")["item_id"][0]
    pairs = recommender.score(["K1", "nobody", "K1"], [taken, "sku-35", "no such"])
    assert pairs["user_id"].to_list() == ["K1", "nobody", "K1"]
    assert pairs["item_id"].to_list() == [taken, "sku-35", "no such"]
    assert pairs["score"].null_count() == 3
    assert "users has 1 unknown ids, which get no score: 'nobody'" in caplog.text
    assert "items has 1 unknown ids, which get no score: 'no such'" in caplog.text
    with pytest.raises(ValueError, match="are 1, and items 2"):
        recommender.score("K1", ["sku-01", "sku-35"])


def test_lengths_and_exclusions_may_be_of_each_user(recommender):
    first = recommender.recommend("K1", n=1)["item_id"][0]
    users = ["K2", "K1", "K3"]
    lists = recommender.recommend(users, n={"K1": 3, "K2": 1, "K3": 3}, exclude={"K1": [first]})
    assert lists.group_by("user_id", maintain_order=True).len().rows() == [("K2", 1), ("K1", 3), ("K3", 3)]
    assert lists.filter(user_id="K1").equals(recommender.recommend("K1", n=3, exclude=[first]))
    assert lists.filter(user_id="K3").equals(recommender.recommend("K3", n=3))
    assert first not in lists.filter(user_id="K1")["item_id"]
    assert recommender.recommend("K1", n=1, exclude={"K2": [first]})["item_id"][0] == first
    with pytest.raises(ValueError, match="has no length for user 'K2'"):
        recommender.recommend(users, n={"K1": 3})


def test_similar_items_are_the_list_of_who_took_an_item_alone(recommender):
    near = recommender.similar_items(n=3)
    assert near["item_id"].unique().sort().to_list() == recommender.log.items["item_id"].sort().to_list()
    assert not (near["item_id"] == near["similar_id"]).any()
    first = recommender.log.items["item_id"][0]
    own = recommender.recommend(histories=[[first]], n=3)
    compared = near.filter(pl.col("item_id") == first).rename({"item_id": "of", "similar_id": "item_id"})
    assert compared.select(own.drop("user_id", "because").columns).equals(own.drop("user_id", "because"))
    assert recommender.similar_items(first, n=3).equals(near.filter(pl.col("item_id") == first))


def test_similar_users_share_rare_items(recommender, monkeypatch, caplog):
    monkeypatch.setattr("reclora_kedro.api.MOMENTS_AT_ONCE", 7)  # so that users come in several parts
    taken = LOG.unique(["user_id", "item_id"]).pivot("item_id", index="user_id", values="timestamp").sort("user_id")
    vectors = taken.drop("user_id").to_numpy() > 0
    vectors = vectors / np.sqrt(vectors.sum(axis=0))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines, users = vectors @ vectors.T - np.eye(len(vectors)), taken["user_id"].to_list()
    similar = recommender.similar_users(n=5)
    assert similar.columns == ["user_id", "rank", "similar_id", "score"]
    assert similar["user_id"].unique(maintain_order=True).equals(recommender.log.users["user_id"])
    for (user,), own in similar.group_by("user_id"):
        row = cosines[users.index(user)]
        assert own["rank"].to_list() == [1, 2, 3, 4, 5]
        np.testing.assert_allclose(own["score"], np.sort(row)[::-1][:5], rtol=1e-5)
        np.testing.assert_allclose(own["score"], row[[users.index(each) for each in own["similar_id"]]], rtol=1e-5)
    some = recommender.similar_users(["K7", "nobody", "K1"], n=99)
    assert some["user_id"].unique(maintain_order=True).to_list() == ["K7", "K1"]
    assert some.group_by("user_id").len()["len"].max() <= CUSTOMERS - 1
    assert some.filter(pl.col("rank") <= 5, user_id="K1").equals(similar.filter(user_id="K1"))
    assert "users has 1 unknown ids, left out: 'nobody'" in caplog.text


def test_items_may_be_excluded_given_and_repeated():
    recommender = fit_knn(LOG, THINGS)
    best, *others = recommender.recommend("K1", n=3)["item_id"]
    assert recommender.recommend("K1", n=2, exclude=[best])["item_id"].to_list() == others
    assert recommender.recommend("K1", n=5, candidates=others[:1])["item_id"].to_list() == others[:1]
    own = LOG.filter(user_id="K1")["item_id"].to_list()
    assert recommender.recommend("K1", candidates=own).is_empty()
    assert recommender.recommend("K1", n=PRODUCTS, candidates=own, repeat=True)["item_id"].sort().to_list() == sorted(
        own
    )


def test_candidates_are_of_each_user_and_items_have_values_of_fields():
    recommender = fit_knn(LOG, THINGS)
    everything, titles = (
        recommender.recommend(["K1", "K7"], n=PRODUCTS),
        dict(recommender.log.items.select("item_id", "title").rows()),
    )
    first, second = (everything.filter(user_id=user)["item_id"].to_list() for user in ("K1", "K7"))
    own = recommender.recommend(["K1", "K7", "K2"], candidates={"K7": second[4:6], "K1": first[2:3]})
    assert own.select("user_id", "item_id").rows() == [("K1", first[2]), *(("K7", item) for item in second[4:6])]
    visitors = recommender.recommend(histories=[[first[0]], []], candidates={1: [first[3]]})
    assert visitors.select("user_id", "item_id").rows() == [(1, first[3])]
    coloured = THINGS.with_columns(
        colour=pl.col("title").str.split(" ").list.first(), price=pl.int_range(pl.len()) * 1.0
    )
    priced = fit_knn(LOG, coloured, columns={"price": {"from": "price", "kind": "number"}})
    filtered = priced.recommend(["K1", "K7"], n=PRODUCTS, filter={"colour": ["red", "blue"]})
    assert {titles[item].split()[0] for item in filtered["item_id"]} == {"red", "blue"}
    of_price = priced.recommend(["K1", "K7"], n=PRODUCTS, filter={"price": {"max": 5}})
    assert {*of_price["item_id"]} <= {*coloured.filter(pl.col("price") <= 5)["item_id"]}
    assert of_price.height
    both = priced.recommend(["K1", "K7"], n=PRODUCTS, filter={"colour": ["red", "blue"], "price": {"max": 5}})
    assert {*both["item_id"]} == {*filtered["item_id"]} & {*of_price["item_id"]}
    with pytest.raises(ValueError, match=r"filter names 'colour': text fields of the items are none"):
        recommender.recommend("K1", filter={"colour": ["red"]})
    with pytest.raises(ValueError, match=r"filter names 'price': text fields of the items are colour.*bounds"):
        priced.recommend("K1", filter={"price": ["5"]})
    for unfit in ("red", {"least": 5}):
        with pytest.raises(ValueError, match=r"filter\.colour"):
            priced.recommend("K1", filter={"colour": unfit})


def test_rules_order_lists_and_say_what_they_moved():
    coloured = THINGS.with_columns(colour=pl.col("title").str.split(" ").list.first())
    plain = fit_knn(LOG, coloured)
    every = plain.recommend(["K1", "K7"], n=PRODUCTS)["item_id"]
    last = every.filter(every.is_duplicated())[-1]  # that both may get
    buried = {"bury": {"colour": ["red"]}, "places": 50}
    rules = [{"pin": last, "place": 2}, {"at_most": "colour", "items": 2}, buried]
    ruled = fit_knn(LOG, coloured, rules=rules)
    lists = plain.recommend(["K1", "K7"], n=6, rules=rules)
    assert lists.equals(ruled.recommend(["K1", "K7"], n=6))
    assert "rule" not in plain.recommend("K1").columns
    colour_of = dict(coloured.select("title", "colour").rows())
    for _, own in lists.group_by("user_id"):
        assert (own["item_id"][1], own["rule"][1]) == (last, f"pin {last}")
        colours = [colour_of[title] for title in own["title"]]
        assert max(map(colours.count, colours)) <= 2
        others = [colour for place, colour in enumerate(colours) if place != 1]
        assert others == sorted(others, key=lambda colour: colour == "red")
    ranks = ruled.evaluate(likes=None)
    assert {"item_knn", "without_rules"} <= {*ranks["method"]}
    with pytest.raises(ValueError, match=r"rules\[0\]\.boost names 'brand': text fields of the items are colour"):
        plain.recommend("K1", rules=[{"boost": {"brand": ["x"]}}])
    with pytest.raises(ValueError, match=r"recommendation\.rules\[0\]\.pin is 'none'|rules\[0\]\.pin is 'none'"):
        fit_knn(LOG, coloured, rules=[{"pin": "none"}])


def test_rows_are_in_their_order_without_times_and_every_row_is_a_like():
    in_order = LOG.sample(fraction=1, shuffle=True, seed=1).drop("timestamp")
    log = fit_knn(in_order, THINGS).log
    assert not log.shared_clock
    assert (log.sequences.label == 1).all()
    user = log.users["user_id"].to_list().index("K1")
    items = log.items["item_id"].gather(log.sequences.item_index[log.sequences.starts[user] : log.sequences.ends[user]])
    assert items.to_list() == in_order.filter(user_id="K1")["item_id"].to_list()
    assert log.samples_in("test").height == CUSTOMERS  # each user's last one


def test_ratings_and_other_names_are_read_and_ids_are_titles_without_items():
    ratings = LOG.with_columns(stars=pl.lit(2)).rename({"user_id": "customer"})
    columns = {"user_id": "customer", "rating": "stars"}
    log = fit_knn(ratings, columns=columns).log
    assert not log.sequences.label.any()
    assert log.items["title"].equals(log.items["item_id"].alias("title"))
    assert fit_knn(ratings, columns=columns | {"rating": None}).log.sequences.label.all()


def test_repeated_purchases_are_measured_where_they_may_be_recommended():
    again = pl.concat([LOG, LOG.with_columns(pl.col("timestamp") + 5_000_000)])
    own_items = fit(again, THINGS, sources=["popularity", "own_items"], method="own_items", repeat=True)
    hits = dict(own_items.evaluate(k=ORDERS).select("method", "hit_rate").iter_rows())
    assert hits["own_items"] > 2 * hits["popularity"]
    assert set(own_items.recommend("K1", n=3)["item_id"]) <= set(LOG.filter(user_id="K1")["item_id"])


def test_what_is_measured_says_which_method_recommends(recommender):
    table = recommender.evaluate(k=5)
    assert table.columns == [
        *("method", "chosen", "hit_rate", "hit_rate_low", "hit_rate_high", "ndcg", "ndcg_low", "ndcg_high"),
        *("mrr", "mrr_low", "mrr_high", "coverage", "novelty", "novelty_low", "novelty_high", "likes"),
    ]
    assert table.filter("chosen")["method"].to_list() == [recommender.choice.name]
    assert table.select((pl.col("ndcg_low") <= pl.col("ndcg")) & (pl.col("ndcg") <= pl.col("ndcg_high")))[
        "ndcg_low"
    ].all()
    hits = dict(table.select("method", "hit_rate").iter_rows())
    assert hits["linear"] > hits["popularity"]


def test_too_few_likes_to_measure_are_refused_with_what_brings_more(recommender):
    with pytest.raises(
        ValueError, match=r"^likes is 1, .* likes of 1 user.* users\. Raise `likes`, or write None to take all\.$"
    ):
        recommender.evaluate(likes=1)
    with pytest.raises(ValueError, match=r"^likes is 0: input should be greater"):
        recommender.evaluate(likes=0)
    disliked = fit_knn(LOG.with_columns(rating=1), THINGS)
    with pytest.raises(
        ValueError, match=r"likes of 0 user.* users\. Lower `min_history`, or leave more samples to .*split"
    ):
        disliked.evaluate()


def test_figures_of_users_average_to_those_of_all_likes(recommender):
    table, of_users = recommender.evaluate(k=5, likes=None), recommender.evaluate(k=5, likes=None, per_user=True)
    assert of_users["user_id"].dtype == recommender.log.users["user_id"].dtype
    assert of_users.height == table.height * of_users["user_id"].n_unique() > table.height
    for method, ndcg, novelty, likes in table.select("method", "ndcg", "novelty", "likes").iter_rows():
        own = of_users.filter(method=method)
        assert own["likes"].sum() == likes
        assert np.average(own.select("ndcg", "novelty"), axis=0, weights=own["likes"]) == pytest.approx([ndcg, novelty])


def test_what_the_method_was_chosen_by_is_told_and_kept(recommender, tmp_path, caplog):
    again = fit(LOG, THINGS)
    assert "too few to compare methods" in next(
        each.message for each in caplog.records if each.levelname == "WARNING" and "Lists are made by" in each.message
    )
    assert again.compared.equals(recommender.compared)
    assert again.compared.filter("chosen")["method"].to_list() == [recommender.choice.name]
    assert again.compared["ndcg"].is_sorted(descending=True)
    assert f"{again.compared['likes'][0]} validation likes" in again.choice.reason
    again.save(tmp_path / "model")
    assert Recommender.load(tmp_path / "model").compared.equals(again.compared)
    assert again.with_items(THINGS.head(1).select("item_id", "title")).compared.equals(again.compared)
    assert fit_knn(LOG, THINGS).compared is None


def test_a_named_ranker_without_trees_is_the_fusion():
    named = fit(LOG, THINGS, method="ranker")
    assert (named.choice.kind, named.choice.stage.trees) == ("fusion", None)
    assert named.evaluate().filter("chosen").height == 1


def test_a_loaded_recommender_makes_the_same_lists_and_is_no_pickle(recommender, tmp_path):
    recommender.save(tmp_path / "model")
    suffixes = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".parquet", ".arrow", ".safetensors"}
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.recommend().equals(recommender.recommend())
    assert loaded.evaluate().equals(recommender.evaluate())
    with pytest.raises(FileExistsError, match="remove it, or save to another folder"):
        recommender.save(tmp_path / "model")
    (tmp_path / "model/recommender.json").write_text(json.dumps({"config": {}}))
    seal(tmp_path / "model")
    with pytest.raises(ValueError, match="of another release"):
        Recommender.load(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"recommender\.json"):
        Recommender.load(tmp_path)


def test_what_took_long_to_learn_is_not_learned_again_when_it_is_loaded(recommender, tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "KEPT_FROM", 0)
    recommender = Recommender.from_choice(Training.from_log(recommender.log), recommender.choice, recommender.config)
    recommender.save(tmp_path / "model")
    expected = recommender.recommend()
    with monkeypatch.context() as patch:
        patch.delattr(linear, "_ease")
        assert Recommender.load(tmp_path / "model").recommend().equals(expected)


def test_a_damaged_folder_is_refused_with_the_name_of_the_file(recommender, tmp_path):
    recommender.save(tmp_path / "model")
    for file, folder in damaged_folders(tmp_path / "model", tmp_path / "damaged"):
        with pytest.raises(ValueError, match=rf"^\S*{re.escape(file)} is \w[^:]*\. Restore a copy of "):
            Recommender.load(folder)
    (tmp_path / "model/log/repeats.arrow").write_bytes(b"")
    with pytest.raises(ValueError, match=r"repeats\.arrow was added"):
        Recommender.load(tmp_path / "model")


def test_nothing_is_imported_that_is_not_needed(tmp_path):
    LOG.write_parquet(tmp_path / "log.parquet")
    script = f"""
import sys
import reclora_kedro
assert not {{"polars", "numpy"}} & {{*sys.modules}}
recommender = reclora_kedro.Recommender.fit({str(tmp_path / "log.parquet")!r}, method="linear")
recommender.save({str(tmp_path / "model")!r})
recommender = reclora_kedro.Recommender.load({str(tmp_path / "model")!r})
recommender.recommend(["K1"]), recommender.recommend(histories=[["sku-01"]]), recommender.evaluate()
print(*{{"torch", "transformers", "kedro", "lightgbm"}} & {{*sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


WRITERS = {
    "csv": pl.DataFrame.write_csv,
    "tsv": partial(pl.DataFrame.write_csv, separator="\t"),
    "parquet": pl.DataFrame.write_parquet,
    "jsonl": pl.DataFrame.write_ndjson,
}


@pytest.mark.parametrize("ending", WRITERS)
def test_files_are_read_and_keep_leading_zeros(tmp_path, ending):
    write = WRITERS[ending]
    numbered = LOG.with_columns(pl.col("item_id").str.slice(4), pl.col("user_id").str.slice(1).cast(pl.Int64))
    write(numbered, tmp_path / f"log.{ending}")
    write(THINGS.with_columns(pl.col("item_id").str.slice(4)), tmp_path / f"items.{ending}")
    log = fit_knn(tmp_path / f"log.{ending}", str(tmp_path / f"items.{ending}")).log
    assert log.items["item_id"].head(2).to_list() == ["00", "01"]
    assert log.users["user_id"].head(2).to_list() == [0, 1]


@pytest.mark.parametrize("ending", WRITERS)
def test_days_and_months_of_files_are_never_mixed_up(tmp_path, ending):
    early = LOG.with_columns(pl.from_epoch("timestamp").dt.replace(month=1 + pl.int_range(pl.len()) % 9, day=2))
    expected, file = fit_knn(early).log.sequences.timestamp, tmp_path / f"log.{ending}"
    for written, settings in (("%m/%d/%Y %H:%M:%S", {"timestamp_format": "%m/%d/%Y %H:%M:%S"}), ("%FT%TZ", {})):
        WRITERS[ending](early.with_columns(pl.col("timestamp").dt.strftime(written)), file)
        assert np.array_equal(fit_knn(file, **settings).log.sequences.timestamp, expected)
    parted = early.select(
        "user_id", "item_id", day=pl.col("timestamp").dt.strftime("%F"), time=pl.col("timestamp").dt.strftime("%T")
    )
    WRITERS[ending](parted, file)
    assert np.array_equal(fit_knn(file, columns={"timestamp": ["day", "time"]}).log.sequences.timestamp, expected)
    WRITERS[ending](early.with_columns(pl.col("timestamp").dt.strftime("%d/%m/%Y")), file)
    with pytest.raises(ValueError, match=r"'timestamp' .* holds '02/01/2020' in row 1.*`timestamp_format`"):
        fit_knn(file)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_values_that_come_late_in_a_file_tell_the_types_of_its_columns(tmp_path, ending):
    late = pl.when(pl.int_range(pl.len()) > 800).then(pl.lit("4.5")).otherwise(pl.lit("4"))
    text = WRITERS[ending](LOG.with_columns(rating=late)).replace('"4.5"', "4.5").replace(',"rating":"4"', "")
    (tmp_path / f"log.{ending}").write_text(text)
    ratings = fit_knn(tmp_path / f"log.{ending}", max_missing=1).log.sequences.rating
    assert (ratings == 4.5).sum() == LOG.height - 801


def test_whole_numbers_of_one_table_meet_texts_of_the_other():
    numbers = LOG.with_columns(pl.col("item_id").str.slice(4).cast(pl.Int64)).to_pandas()
    texts = THINGS.with_columns(pl.col("item_id").str.slice(4).cast(pl.Int64).cast(pl.String))
    assert fit_knn(numbers, texts).log.items["item_id"].dtype == pl.Int64  # as in the log
    written, items = (
        LOG.with_columns(pl.col("item_id").str.slice(4).cast(int).cast(pl.String)),
        texts.cast({"item_id": int}),
    )
    assert fit_knn(written, items).log.items["item_id"].dtype == pl.String


def test_ids_with_which_a_recommender_was_fitted_are_found():
    numbered = LOG.with_columns(pl.col("item_id").str.slice(4).cast(int), pl.col("user_id").str.slice(1).cast(int))
    with_gaps = pl.concat([numbered, numbered[:1].with_columns(user_id=None)]).to_pandas()  # whose users are floats
    recommender, users = fit_knn(with_gaps), with_gaps["user_id"].dropna().unique()
    lists = recommender.recommend(users, exclude=[1.0])
    assert lists.equals(recommender.recommend(users.astype(int), exclude=[1]))
    assert lists["score"].null_count() == 0
    assert recommender.recommend(histories=[[2.0, 3.0]]).equals(recommender.recommend(histories=[[2, 3]]))
    padded = fit_knn(LOG.with_columns(pl.col("user_id") + " "), THINGS)
    assert padded.recommend("K1 ").equals(padded.recommend("K1"))


@pytest.mark.parametrize(
    ("log", "items", "settings", "message"),
    [
        (LOG, THINGS, {"columns": {"user_id": "who"}}, "interactions has no column 'who', only: user_id, item_id, "
         r"timestamp\. Set `columns\[\"user_id\"\]`"),
        (LOG.rename({"user_id": "who"}), THINGS.select(a="title", b="title"), {},
         r"items has no column with ids of interactions\['item_id'\], such as 'sku-\d\d'.*: it has a, b\. Name"),
        (LOG.select("user_id", "timestamp"), THINGS, {}, "interactions has no pair of columns with users and items"),
        (LOG.filter(user_id="K1"), THINGS, {}, "interactions has one user, 'K1'"),
        (LOG, THINGS.with_columns(pl.col("item_id") + "x"), {}, "items has none of the log's item_ids: .*alike"),
        (LOG.with_columns(rating=70), THINGS, {}, "'rating' of interactions ranges from 70 to 70, .*Set `rating_min`"),
        (LOG.with_columns(pl.col("timestamp") * 1000), THINGS, {}, "set `timestamp_format` to unix_milliseconds"),
        (LOG.clear(), THINGS, {}, "interactions has no row"),
        ({"user_id": [1]}, THINGS, {}, "interactions is of type dict: a table is expected. Give a frame or the path"),
        (LOG, THINGS, {"method": "linera"}, "method is 'linera': .* the nearest one is linear"),
        (LOG, THINGS, {"linear": {"recencies": [1.5]}}, r"^linear.recencies\[0\] is 1.5: input should be less than or"),
        (LOG, THINGS, {"linear": {"recency": [1]}}, "linear.recency is not a parameter. The nearest one is `linear.r"),
        (LOG, THINGS, {"sources": ["retriever"]}, "names retriever, but this run loads none"),
        (LOG, THINGS, {"columns": {"user_id": ["user_id"]}}, r"^columns\[.user_id.\] is \['user_id'\]: the"),
        (LOG, THINGS, {"columns": {"timestamp": ["day", "time"]}}, r"^columns.*is .'day', 'time'.: .*user_id"),
        (LOG, THINGS, {"columns": {"user": "user_id"}}, "columns names 'user': only user_id, item_id"),
        (LOG.group_by("user_id").head(5), THINGS, {"split": {"kind": "per_user_last_out"}},
         "^min_history is 3, so the training split has no samples, .* Lower it, or change `split`"),
        (LOG.group_by("user_id").head(3), THINGS, {}, "^min_history is 3: none of the 180 interactions"),
    ],
)  # fmt: skip
def test_what_is_unfit_is_refused_in_words_of_a_script(log, items, settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        fit(log, items, **settings)
    assert not {"catalog", "raw_interactions", "ingestion."} & {*str(refused.value).split()}


def test_a_missing_file_is_refused():
    with pytest.raises(FileNotFoundError, match=r"log\.csv does not exist: correct the path"):
        fit("log.csv")


def test_an_unknown_setting_is_refused_with_the_nearest_one():
    with pytest.raises(TypeError, match=r"'metod' is not a setting of Recommender\.fit; the nearest one is 'method'"):
        fit(LOG, THINGS, metod="linear")
    with pytest.raises(TypeError, match="'variant' is not a setting"):  # of a project alone
        fit(LOG, THINGS, variant="reclora")


def test_settings_with_one_name_are_told_apart_by_their_block():
    with pytest.raises(
        TypeError, match=r"item_knn.text_weights and linear.text_weights: give the block, such as item_"
    ):
        fit(LOG, THINGS, text_weights=[0.8])
    fit(LOG, THINGS, item_knn={"text_weights": [0.8]}, method="item_knn", days=[])


def test_an_entry_of_a_catalog_is_refused_as_encoder():
    with pytest.raises(ValueError, match=r"'base_llm': .*\. Name some of tfidf, sentence_encoder and co_occurrence"):
        fit(LOG, THINGS, encoders=["base_llm"])


def test_unknown_users_and_items_are_told(recommender, caplog):
    with caplog.at_level(logging.WARNING):
        lists = recommender.recommend(["K1", "nobody"], n=2, exclude=["sku-98", "sku-00"])
        visitors = recommender.recommend(histories=[["sku-99"], ["sku-01"], []], n=2, candidates=LOG["item_id"])
    assert "1 of 2 users are unknown, and get the most popular items: 'nobody'." in caplog.text
    assert "exclude has 1 unknown items, which are left out: 'sku-98'. Ids of the 40 items are written" in caplog.text
    assert "histories has 1 unknown items, which are left out: 'sku-99'." in caplog.text
    assert lists["user_id"].to_list() == ["K1"] * 2 + ["nobody"] * 2
    assert visitors.filter(user_id=0).drop("user_id").equals(visitors.filter(user_id=2).drop("user_id"))


def test_what_cannot_be_a_request_is_refused(recommender):
    with pytest.raises(ValueError, match="users are given together with histories"):
        recommender.recommend(["K1"], histories=[[]])
    with pytest.raises(ValueError, match="n is 0"):
        recommender.recommend(n=0)
    for histories in ([1, 2, 3], ["sku-01"], "sku-01", 5, pl.DataFrame({"item_id": ["sku-01"]})):
        with pytest.raises(
            ValueError, match=r"histories.* each visitor has a list of ids of items\. Write histories=\[\[1, 2\]\]"
        ):
            recommender.recommend(histories=histories)


@pytest.mark.parametrize("page", ["guides/python.md", "start/coming-from.md"])
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ORDERED.write_csv("orders.csv")
    SOLD.write_csv("products.csv")
    text = re.sub(r"^```.*$", "", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, page, None, 0)
    assert len(examples.examples) > 5
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(examples).failed == 0


def test_columns_that_may_be_meant_are_read_and_told(caplog):
    other = LOG.rename({"timestamp": "bought_at", "user_id": "who"})
    with caplog.at_level(logging.WARNING):
        guessed = fit_knn(other, THINGS.rename({"title": "Bezeichnung"}))
    assert (
        "interactions is read as guessed: users 'who', items 'item_id', times 'bought_at'. Of items, the ids are "
        "'item_id', and the titles 'Bezeichnung'. Name others in columns." in caplog.text
    )
    assert guessed.recommend("K1").equals(fit_knn(LOG, THINGS).recommend("K1"))


@pytest.mark.parametrize("name", ["German names", "lists of items and times", "Excel", "order numbers"])
def test_files_of_other_shapes_are_read_as_new_log_reads_them(name, tmp_path):
    [interactions, items] = SHAPES[name].tables(tmp_path)
    log = fit_knn(interactions, items).log
    assert log.items["title"].is_in(TITLES).all()
    assert log.shared_clock
    assert len(log.sequences.item_index) >= 840  # some are repeated or cancelled
    assert log.sequences.label.all() == (SHAPES[name].rating is None)


def test_dropped_rows_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        fit_knn(LOG.with_columns(item_id=pl.when(pl.int_range(pl.len()) > 1).then("item_id")), THINGS)
    assert "2 rows were dropped: missing user or item id: 2." in caplog.text
