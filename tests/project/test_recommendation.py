"""`kedro run --pipelines recommendation` on a finished run, with every kind of candidate set."""

import asyncio
import json
import re
from functools import partial

import numpy as np
import polars as pl
import pytest

from documented import run_documented
from projects import kedro_run, stored
from reclora_kedro.candidates import linear
from reclora_kedro.parameters import MAX_INT32
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.models import Request
from reclora_kedro.serving.service import Service

UNKNOWN = 999_999


def recommend(finished_run, **changes):
    """The catalog after a run with these recommendation parameters."""
    parameters = {"recommendation": changes}
    return kedro_run(finished_run.project, parameters, pipeline_names=["recommendation"])


@pytest.fixture
def log(finished_run):
    return finished_run.catalog.load("interactions").collect()


def test_the_llm_ranks_what_is_near_to_what_each_user_took(finished_run, log, capsys):
    catalog = run_documented(finished_run.project, "--pipelines recommendation")
    table = catalog.load("recommendations")
    assert table.columns == ["user_id", "rank", "item_id", "title", "score", "because", "shown_history", "fallback"]
    assert table.join(log, on=["user_id", "item_id"], how="semi").is_empty()
    assert table["user_id"].unique(maintain_order=True).to_list() == catalog.load("users")["user_id"].to_list()
    for _, part in table.group_by("user_id"):
        assert part["rank"].to_list() == list(range(1, part.height + 1))
        assert part["score"].is_sorted(descending=True)
        assert part.height <= 10
    assert table["score"].is_between(0, 1).all()
    titles = dict(catalog.load("items").select("item_id", "title").iter_rows())
    assert [titles[item] for item in table["item_id"]] == table["title"].to_list()
    seen = log.with_columns(title=pl.col("item_id").replace_strict(titles)).group_by("user_id").agg("title")
    shown = table.join(seen, on="user_id", suffix="_seen")
    assert all(set(titles) <= set(past) for titles, past in shown.select("shown_history", "title_seen").iter_rows())
    report = catalog.load("shortlist_report")
    assert report["users"] == catalog.load("users").height
    assert report["fallbacks"] == report["empty_candidate_sets"] == 0
    assert catalog.load("recommendation_report") == {"pairs_scored": catalog.load("shortlist").height}
    assert report["concentration"]["lists"] == report["users"]
    assert catalog.load("candidate_metrics") == []  # the environment names the method
    assert catalog.get("recommendations").preview()
    assert table["title"][0].split(" (")[0] in capsys.readouterr().out


@pytest.mark.parametrize("variant", ["reclora", None])
def test_the_service_recommends_what_the_run_did(finished_run, tmp_path, monkeypatch, variant):
    monkeypatch.setattr(linear, "KEPT_FROM", MAX_INT32 if variant else 0)
    expected = recommend(finished_run, variant=variant).load("recommendations")
    monkeypatch.chdir(finished_run.project)
    if not variant:
        monkeypatch.delattr(linear, "_ease")  # the run has kept what it learned
    project = ServedProject(finished_run.project, "test", {"service": {"journal": str(tmp_path / "journal.sqlite")}})
    service = Service(project.settings(), project.current_model, Metrics())
    users = expected["user_id"].unique(maintain_order=True).to_list()
    requests = [Request(rank=True, user=str(user), n=10, model="llm" if variant else "lens") for user in users]
    answers = asyncio.run(service.answer([(lambda now, request=request: request, 20) for request in requests]))

    items = service.current_model.log.items["item_id"]
    for user, answer in zip(users, answers, strict=True):
        own = expected.filter(user_id=user)
        assert items.gather(answer.items).to_list() == own["item_id"].to_list()
        np.testing.assert_allclose(answer.scores, own["score"], atol=1e-4 if variant else 1e-6)
    assert service.current_model.versions.keys() == {"log", "lens", "reclora.adapter", "candidate_choice"}
    service.close()


def test_the_service_reads_the_configuration_once_at_its_start_and_anew_for_the_next_model(
    finished_run, tmp_path, monkeypatch
):
    recommend(finished_run, variant=None)
    monkeypatch.chdir(finished_run.project)
    read, read_configuration = [], ServedProject._read_configuration
    monkeypatch.setattr(
        ServedProject, "_read_configuration", lambda self: read.append(True) or read_configuration(self)
    )
    journal = {"service": {"variant": None, "journal": str(tmp_path / "journal.sqlite")}}
    project = ServedProject(finished_run.project, "test", journal)
    project.settings()
    first = project.current_model()
    project.forgotten(), project.withheld(), project.chosen_by()
    assert len(read) == 1
    assert project.current_model().versions == first.versions
    assert len(read) == 2


def test_the_lens_ranks_where_no_variant_does_and_a_plain_file_has_the_same_lines(finished_run):
    catalog = recommend(finished_run, variant=None)
    table, shortlist = (catalog.load(name) for name in ("recommendations", "shortlist"))
    of_lens = shortlist.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id"))
    expected = of_lens.filter(pl.col("rank") <= 10).select("user_id", "rank", "item_id", "title", "score")
    assert table.select(expected.columns).equals(expected)
    assert catalog.load("recommendation_report") == {"pairs_scored": 0}
    lines = pl.read_csv(finished_run.project / "data/test/07_model_output/recommendations.csv")
    assert lines.select("user_id", "rank", "item_id", "title").equals(
        table.select("user_id", "rank", "item_id", "title")
    )


def test_methods_compete_on_validation_likes_and_the_one_in_use_stays_until_another_is_better(finished_run):
    catalog = recommend(finished_run, variant=None, method="validation")
    choice, metrics = catalog.load("candidate_choice"), catalog.load("candidate_metrics")
    compared = {record["model"] for record in metrics}
    assert compared >= {"popularity_lens", "item_knn_lens", "linear_lens", "fusion_lens"}
    best = max(metrics, key=lambda record: record["ndcg"])["model"]
    assert {record["baseline"] for record in metrics} == {best}
    assert (choice["kind"], choice["order"]) == ("item_knn", "lens")  # which was in use
    assert (
        choice["reason"]
        == f"{metrics[0]['rows']} validation likes are too few to compare methods (100 are needed), so it stays"
    )
    assert choice["at_test_moments"]["lists"] > 1


def test_the_report_has_the_list_of_a_visitor_where_all_lists_are_made_in_that_way(finished_run, log):
    settings = {"method": "item_knn", "order": "candidates"}
    example = recommend(finished_run, **settings, variant=None).load("shortlist_report")["example"]
    items = finished_run.catalog.load("items").with_row_index()
    counts = items.join(log.group_by("item_id").len(), on="item_id").sort("len", "index", descending=[True, False])
    assert example["taken"] == counts["title"].head(3).to_list()
    assert [each["rank"] for each in example["list"]] == list(range(1, 11))
    assert not {each["title"] for each in example["list"]} & {*example["taken"]}
    assert {title for each in example["list"] for title in each["because"]} <= {*example["taken"]}
    for other in ({"order": "lens", "variant": None}, {"variant": "reclora"}):
        assert recommend(finished_run, **settings | other).load("shortlist_report")["example"] is None


def test_users_that_no_table_knows_get_what_most_users_liked(finished_run, log):
    parameters = {"recommendation": {"users": [UNKNOWN, 3, 3]}, "popularity": {"days": []}}  # all time
    catalog = kedro_run(finished_run.project, parameters, pipeline_names=["recommendation"])
    table = catalog.load("recommendations")
    unknown, known = (table.filter(pl.col("user_id") == user) for user in (UNKNOWN, 3))
    likers = dict(log.filter(label=1).group_by("item_id").agg(pl.col("user_id").n_unique()).iter_rows())
    counts = [likers.get(item, 0) for item in unknown["item_id"]]
    assert counts == sorted(likers.values(), reverse=True)[:10]
    assert unknown["score"].null_count() == unknown.height
    assert unknown["fallback"].all()
    assert not known["fallback"].any()
    report = catalog.load("shortlist_report")
    assert (report["users"], report["fallbacks"]) == (2, 1)


def test_repeat_purchases_and_items_that_are_no_goods(finished_run, log):
    settings = {"variant": None, "method": "own_items", "order": "candidates", "sources": ["popularity", "own_items"]}
    taken = recommend(finished_run, **settings, repeat=True).load("recommendations")
    own = taken.join(log, on=["user_id", "item_id"], how="semi")
    assert own.equals(taken.filter(pl.col("score") > 0))
    assert own.height > 0.9 * taken.height
    [first] = taken["item_id"].value_counts(sort=True)["item_id"].head(1)
    without = recommend(finished_run, **settings, repeat=True, exclude_items=[f"{first}"]).load("recommendations")
    assert first not in without["item_id"]
    assert without.height == taken.height


def test_candidates_of_a_table_and_users_that_it_leaves_out(finished_run):
    table = finished_run.project / "data/candidates.csv"
    table.write_text(f"user_id,item_id,source\n1,1,a\n1,2,b\n1,2,c\n2,12345,d\n{UNKNOWN},4,e\n")
    entry = finished_run.project / "conf/test/catalog_candidates.yml"
    entry.write_text(
        "recommendation_candidates: {type: polars.CSVDataset, filepath: data/candidates.csv, "
        "metadata: {kedro-viz: {layer: model_input}}}\n"
    )
    try:
        catalog = recommend(finished_run, users=[5, 1, 2, UNKNOWN], candidates="table")
        shown, report = (catalog.load(name) for name in ("recommendations", "shortlist_report"))
        everyone = recommend(finished_run, candidates="table").load("shortlist_report")
    finally:
        entry.unlink()
    assert shown["user_id"].to_list() == [1, 1, UNKNOWN]
    assert set(shown["item_id"][:2]) == {1, 2}  # also where the user has seen them: the table decides
    assert shown["fallback"].to_list() == [False, False, True]
    counts = {"users": 4, "fallbacks": 1, "empty_candidate_sets": 2}
    assert {name: report[name] for name in counts} == counts
    assert report["warnings"] == []
    assert catalog.load("recommendation_report") == {"pairs_scored": 2}
    assert everyone["users"] == 3


def test_no_candidates_at_all_leave_an_empty_table(finished_run):
    catalog = recommend(finished_run, users=[1], exclude_items=["*"])
    assert catalog.load("recommendations").is_empty()
    assert catalog.load("shortlist_report")["empty_candidate_sets"] == 1


def test_an_unknown_user_gets_a_list_and_an_id_of_another_type_none(finished_run):
    table = recommend(finished_run, users=["nobody", 77777, " 7"]).load("recommendations")
    fallback = dict(table.group_by("user_id").agg(pl.col("fallback").all()).iter_rows())
    assert fallback == {77777: True, 7: False}


@pytest.mark.parametrize(
    ("changes", "patterns"),
    [
        (  # all at once
            {"users": [], "candidates": "all", "shortlist": "many"},
            [r"recommendation\.users", r"recommendation\.candidates", r"recommendation\.shortlist"],
        ),
        ({"variant": "recolra"}, [r"recommendation\.variant is 'recolra': `finetuning\.variants` names .*reclora"]),
        ({"sources": ["outside.nothing"]}, [r"recommendation\.sources: .*outside\.nothing"]),
        ({"method": "itemknn"}, [r"method is 'itemknn': it must be one of .*; the nearest one is item_knn"]),
        ({"shortlist": 3}, ["shortlist keeps 3 candidates of each user: `recommendation.top_n` recommends 10"]),
        ({"candidates": "table"}, ["recommendation_candidates holds nothing"]),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(finished_run, changes, patterns):
    before = stored(finished_run.project)
    with pytest.raises(Exception, match=patterns[0]) as told:
        recommend(finished_run, **changes)
    assert [pattern for pattern in patterns if not re.search(pattern, str(told.value))] == []
    assert stored(finished_run.project) == before


def test_lists_go_to_a_table_of_the_shop_by_a_catalog_entry_alone(finished_run, postgres):
    import psycopg

    test = finished_run.project / "conf/test"
    entry = {"type": "reclora_kedro.datasets.database_table.DatabaseTableDataset", "table_name": "recommendations"}
    address = postgres.replace("postgresql", "postgresql+psycopg")
    (test / "catalog_shop.yml").write_text(json.dumps({"recommendations_csv": entry | {"credentials": "shop"}}))
    (test / "credentials.yml").write_text(json.dumps({"shop": {"con": address}}))
    try:
        with psycopg.connect(postgres, autocommit=True) as shop:
            shop.execute("SET lock_timeout = '5s'")
            for items in (5, 3):
                catalog = recommend(finished_run, variant=None, top_n=items)
                rows = shop.execute("SELECT user_id, rank, item_id, title FROM recommendations").fetchall()
                listed = catalog.load("recommendations").select("user_id", "rank", "item_id", "title")
                assert sorted(rows) == sorted(listed.rows())
                shop.execute("CREATE OR REPLACE VIEW best AS SELECT * FROM recommendations WHERE rank = 1")
            best = shop.execute("SELECT count(*) FROM best").fetchone()
            assert best == (len({user for user, *_ in rows}),)  # a view outlives new lists
            settings = {"recommendation": {"variant": None, "top_n": 3}}
            again = partial(kedro_run, finished_run.project, settings, pipeline_names=["recommendation"])
            again(only_missing_outputs=True)
            assert shop.execute("SELECT count(*) FROM best").fetchone() == best
            shop.execute("DELETE FROM recommendations")
            again(only_missing_outputs=True)  # which notices what was changed there
            assert shop.execute("SELECT count(*) FROM best").fetchone() == best
    finally:
        for name in ("catalog_shop.yml", "credentials.yml"):
            (test / name).unlink()
