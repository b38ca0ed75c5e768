"""A source that no file of the project names, by its dotted path, in all that makes or measures lists."""

import asyncio

import numpy as np
import pytest

from kedro_provenance.failures import RunRefusedError
from projects import kedro_run
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.pipelines.served_project import ServedProject
from reclora_kedro.serving.metrics import Metrics
from reclora_kedro.serving.models import Request
from reclora_kedro.serving.service import Service

SETTINGS = {
    "recommendation": {
        "sources": ["popularity", "third_party.shelf"], "method": "shelf", "order": "candidates", "variant": None,
    },
    "ranking": {"variant": None},
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog(finished_run):
    return kedro_run(finished_run.project, SETTINGS, pipeline_names=["recommendation", "ranking", "similar_items"])


def test_it_makes_the_delivered_lists(catalog):
    log, table = catalog.load("log"), catalog.load("recommendations")
    assert catalog.load("candidate_choice")["sources"].keys() == {"popularity", "third_party.shelf"}
    index = {item: place for place, item in enumerate(log.items["item_id"].to_list())}
    users = {user: place for place, user in enumerate(log.users["user_id"].to_list())}
    for (user,), own in table.group_by("user_id"):
        events = log.sequences.item_index[slice(*log.sequences.offsets[users[user] : users[user] + 2])]
        near = sorted(abs(item - events[-1]) for item in index.values() if item not in events)
        assert [abs(index[item] - events[-1]) for item in own["item_id"]] == near[:10]
        assert own["score"].to_list() == [-each for each in near[:10]]


def test_it_is_ranked_drawn_and_explained_beside_the_others(catalog):
    models = {record["model"] for record in catalog.load("ranking_metrics")}
    assert models >= {"popularity", "shelf", "lens", "shelf_lens"}
    assert "what stands on the same shelf" in catalog.load("ranking_report")
    [line] = [line for line in catalog.load("hit_rate_figure").data if line.name == "shelf"]
    assert line.line.color == "#A1B2C3"
    assert "#A1B2C3" in catalog.load("ranking_figure").to_json()


def test_similar_items_stand_near_on_the_shelf_and_are_measured_by_what_was_taken_next(catalog):
    log, similar = catalog.load("log"), catalog.load("similar_items")
    assert catalog.load("similar_items_csv").height == similar.height
    index = {item: place for place, item in enumerate(log.items["item_id"].to_list())}
    lists = {item: [index[each] for each in own["similar_id"]] for (item,), own in similar.group_by("item_id")}
    for item, place in index.items():
        near = sorted(abs(each - place) for each in index.values() if each != place)
        assert [abs(each - place) for each in lists[item]] == near[:10]
    likes, events = draw_positives(log, "test", None, 0), log.sequences.item_index
    pairs = [(events[end - 1], item) for end, item in likes.select("history_end", "item_index").rows()]
    hits = [sorted(abs(each - given) for each in index.values() if each != given) for given, _ in pairs]
    is_hit = [abs(item - given) <= near[9] for (given, item), near in zip(pairs, hits, strict=True)]
    metrics = {record["model"]: record for record in catalog.load("similar_items_metrics")}
    assert metrics["shelf"]["rows"] == len(pairs)
    assert metrics["shelf"]["hit_rate"] == pytest.approx(np.mean(is_hit), abs=1.5 / len(pairs))  # equally near are many


def test_the_service_answers_with_it_and_refuses_other_sources(finished_run, catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(finished_run.project)
    serving = {"service": {"journal": str(tmp_path / "journal.sqlite")}}
    with pytest.raises(RunRefusedError, match=r"was made with the sources popularity, third_party\.shelf, but"):
        ServedProject(finished_run.project, "test", serving).current_model()
    project = ServedProject(finished_run.project, "test", SETTINGS | serving)
    service = Service(project.settings(), project.current_model, Metrics())
    expected = catalog.load("recommendations")
    users = expected["user_id"].unique(maintain_order=True).to_list()
    requests = [Request(rank=True, user=str(user), n=10) for user in users]
    answers = asyncio.run(service.answer([(lambda now, request=request: request, 20) for request in requests]))
    items = service.current_model.log.items["item_id"]
    for user, answer in zip(users, answers, strict=True):
        own = expected.filter(user_id=user)
        assert items.gather(answer.items).to_list() == own["item_id"].to_list()
        np.testing.assert_allclose(answer.scores, own["score"])
    service.close()
