"""`kedro run --pipelines candidates` on a finished run."""

from contextlib import redirect_stdout
from io import StringIO

import pytest

from cycle_log import catalogue_scores
from projects import catalog_of, kedro_run, stored
from reclora_kedro.candidates.next_item.reader import RetrieverReader

SOURCES = ["popularity", "item_knn", "linear", "retriever"]


def test_a_retriever_that_is_not_trained_yet_is_refused_with_what_to_do(finished_run):
    before = stored(finished_run.project)
    message = "retriever: no version in .*\n.*`kedro run --env test --pipelines candidates`"
    with pytest.raises(Exception, match=message):
        kedro_run(finished_run.project, {"recommendation": {"sources": SOURCES}}, pipeline_names=["recommendation"])
    assert stored(finished_run.project) == before


@pytest.fixture(scope="module")
def shown(finished_run):
    """What a run printed that trains a retriever and ranks by it."""
    settings = {"recommendation": {"sources": SOURCES, "method": "validation", "order": "candidates", "variant": None}}
    with redirect_stdout(StringIO()) as printed:
        kedro_run(finished_run.project, settings, pipeline_names=["candidates", "recommendation", "ranking"])
    return printed.getvalue()


def test_a_retriever_finds_candidates_beside_the_other_sources(finished_run, shown):
    catalog = catalog_of(finished_run.project)
    compared = [record["model"] for record in catalog.load("candidate_metrics")]
    methods = [model for model in compared if model != "ranker"]
    assert methods == [*SOURCES, "fusion"]
    ranked, reordered = catalog.load("ranking_metrics"), [f"{method}_lens" for method in compared]
    assert {*compared, *reordered, "lens", "reclora"} == {record["model"] for record in ranked}
    assert all(record["among_20"] <= record["among_100"] <= record["among_500"] <= 1 for record in ranked)


def test_a_retriever_is_trained_shown_and_loaded(finished_run, shown):
    catalog = catalog_of(finished_run.project)
    training_log, log = catalog.load("retriever_training_log"), catalog.load("log")
    assert [record["epoch"] for record in training_log] == [1, 2]
    assert len(catalog.load("retriever_curve").data) == 3
    assert "Retriever, validation likes: epoch" in shown
    reader = RetrieverReader(catalog.load("retriever"), log)
    scores = catalogue_scores(reader, log.samples.filter(split="test"))
    assert scores.shape[1] == log.items.height
    assert not (finished_run.project / "data/test/06_models/retriever_checkpoints").exists()
    assert catalog.get("retriever_training_log").preview()
    assert "train_retriever" not in " ".join(
        kedro_run(finished_run.project, pipeline_names=["candidates"], only_missing_outputs=True).load("run_manifest")[
            "nodes"
        ]
    )
