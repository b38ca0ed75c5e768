"""`kedro run --pipelines ranking` on a finished run."""

import re

import polars as pl
import pytest

from documented import run_documented
from projects import kedro_run, stored

METRICS = ("hit_rate", "ndcg", "mrr", "novelty")
METHODS = ["popularity", "item_knn", "linear"]  # the named method needs no fusion
MODELS = [*METHODS, *(f"{method}_lens" for method in METHODS), "lens"]


def rank(finished_run, **changes):
    """The catalog after a run with these ranking parameters."""
    return kedro_run(finished_run.project, {"ranking": changes}, pipeline_names=["ranking"])


def test_models_with_and_without_an_llm_rank_the_same_likes(finished_run, capsys):
    catalog = run_documented(finished_run.project, "--pipelines ranking")
    ranks, reranked = catalog.load("item_ranks"), catalog.load("reranked_item_ranks")
    samples = catalog.load("log").samples
    assert ranks["model"].unique(maintain_order=True).to_list() == MODELS
    assert reranked["model"].unique().to_list() == ["reclora"]
    assert reranked.schema == ranks.schema
    first_stage = ranks.filter(model="item_knn_lens")
    assert first_stage["row"].to_list() == reranked["row"].to_list()
    rows = first_stage.join(samples, on="row")
    assert rows.select(pl.col("split").unique(), pl.col("label").unique()).row(0) == ("test", 1)
    assert catalog.load("ranking.recent.prompts").height <= 20 * first_stage.height
    behind = (first_stage["rank"] > 20).fill_null(True)
    assert behind.any()
    assert first_stage.filter(behind)["rank"].to_list() == reranked.filter(behind)["rank"].to_list()
    for one, other in zip(first_stage["top_items"], reranked["top_items"], strict=True):
        assert sorted(one) == sorted(other)
    records = catalog.load("ranking_metrics")
    assert [(record["model"], record["k"]) for record in records] == [
        (model, k) for model in (*MODELS, "reclora") for k in (5, 10)
    ]
    for record in records:
        assert record["rows"] == first_stage.height == 30
        assert all(record[f"{name}_low"] <= record[name] <= record[f"{name}_high"] for name in METRICS)
        assert 0 < record["coverage"] <= 1
    whole = {(each["model"], each["k"]): each for each in catalog.load("beyond_accuracy") if each["segment"] == "all"}
    assert [whole[record["model"], record["k"]]["coverage"] for record in records] == [
        record["coverage"] for record in records
    ]
    assert "Beyond accuracy: the first 10 items" in catalog.load("ranking_report")
    assert len(catalog.load("ranking_figure").data) == 2 * len([*MODELS, "reclora"])
    assert [line.name for line in catalog.load("hit_rate_figure").data] == [*MODELS, "reclora"]
    assert catalog.get("ranking_metrics").preview()
    assert all((record["ndcg_difference"] is None) == (record["model"] == record["baseline"]) for record in records)
    assert {record["baseline"] for record in records} <= set(MODELS)
    shown = " ".join(capsys.readouterr().out.split())
    assert "30 likes of" in shown
    assert "HR@10" in shown
    assert f"Holm over {2 * len(MODELS)} pairs" in shown


def test_without_a_variant_no_llm_is_needed(finished_run):
    catalog = rank(finished_run, variant=None, rows=None, candidates=9, cutoffs=[3])
    nodes = catalog.load("run_manifest")["nodes"]
    assert not any("rerank" in name for name in nodes)
    records = catalog.load("ranking_metrics")
    assert [record["model"] for record in records] == MODELS
    assert {record["candidates"] for record in records} == {10}
    samples = catalog.load("log").samples
    assert records[0]["rows"] == samples.filter(split="test", label=1).height


@pytest.mark.parametrize(
    ("changes", "patterns"),
    [
        (  # all at once
            {"variant": "recolra", "candidates": "some", "cutoffs": [10, 10]},
            [
                r"ranking\.variant is 'recolra': `finetuning\.variants` names .*reclora",
                r"ranking\.candidates",
                r"ranking\.cutoffs",
            ],
        ),
        (
            {"lens": False, "baseline": "lens"},
            [r"ranking\.baseline is 'lens': the models that rank are popularity, item_knn"],
        ),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(finished_run, changes, patterns):
    before = stored(finished_run.project)
    with pytest.raises(Exception, match=patterns[0]) as told:
        rank(finished_run, **changes)
    assert [pattern for pattern in patterns if not re.search(pattern, str(told.value))] == []
    assert stored(finished_run.project) == before


def test_without_a_lens_the_baselines_rank_and_are_compared_with_the_one_that_is_named(finished_run):
    catalog = rank(finished_run, variant=None, lens=False, baseline="popularity")
    records = catalog.load("ranking_metrics")
    assert {(record["model"], record["baseline"]) for record in records} == {(model, "popularity") for model in METHODS}
