"""What one looks at after a run, in a browser: kedro-viz and the reports, on a phone and on a desk, light and dark."""

import json

import numpy as np
import pytest
from kedro.framework.project import pipelines
from kedro.io.core import is_parameter
from kedro_viz.api.apps import create_api_app_from_project
from kedro_viz.data_access import data_access_manager
from kedro_viz.server import populate_data

from browser import FIGURES, LOOKS, NIGHTLY, answering, chromium
from ranked import beyond_accuracy_records, ranking_records
from reclora_kedro.evaluation.figures import plot_hit_rates, plot_ranking, plot_second_stage
from reclora_kedro.recommendation.ranking_report import render_ranking

OPEN_EACH = """(async (chosen) => {
  const opened = {};
  performance.setResourceTimingBufferSize(2000);
  const answered = (id) => performance.getEntriesByType("resource").some(({name}) => name.endsWith(`/api/nodes/${id}`));
  for (const node of document.querySelectorAll(".pipeline-node")) {
    const {nodeFullname: name, id} = node.dataset, end = performance.now() + 5000;
    if (chosen && !chosen.includes(name)) continue;
    const shown = () => document.querySelector(".pipeline-metadata")?.innerText ?? "";
    let again = 0;  // a click while a busy page draws its graph can be lost, or close what it was to open
    while (!(answered(id) && shown()) && performance.now() < end) {
      if (performance.now() > again && !shown().includes("Loading")) {
        const drawn = document.querySelector(`.pipeline-node[data-id="${id}"]`) ?? node;
        drawn.dispatchEvent(new MouseEvent("click", {bubbles: true}));
        again = performance.now() + 2500;
      }
      await new Promise((done) => setTimeout(done, 10));
    }
    opened[id] = answered(id) ? shown() : `${name}: no answer; ${shown()}`;
  }
  return opened;
})"""
PIPELINES = ("evaluation", "recommendation")
TYPES = "datasets"
if NIGHTLY:
    PIPELINES += ("ingestion", "history", "lens", "finetuning", "scoring")
    TYPES = "nodes,datasets,parameters"
MODELS = ("popularity", "item_knn", "linear", "fusion", "ranker", "retriever", "popularity_lens", "item_knn_lens")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


def test_kedro_viz_opens_what_runs_have_left(tab, finished_run):
    """It takes half a second per node, as kedro-viz draws the whole graph anew: one of each kind is opened by day.

    A kind is a type of dataset. The API is asked for every node, see `test_end_to_end`.
    """
    populate_data(data_access_manager, finished_run.catalog, {name: pipelines[name] for name in PIPELINES}, {})
    tab.look()
    opened, kinds = {}, {}
    for name in sorted(set().union(*(pipelines[name].datasets() for name in PIPELINES))):
        if not is_parameter(name):
            kinds.setdefault(type(finished_run.catalog.get(name)), name)
    chosen = None if NIGHTLY else [*kinds.values()]
    with answering(create_api_app_from_project(finished_run.project)) as url:
        for name in PIPELINES:
            address = f"{url}/?pid={name}&expandAllPipelines=true&types={TYPES}"
            for _ in range(3):  # on a busy machine, a page has opened without a panel for any of its nodes
                tab.open(address, "document.querySelectorAll('.pipeline-node').length > 5", 120)
                found = tab.run(f"{OPEN_EACH}({json.dumps(chosen)})")
                if all("Type:" in shown for shown in found.values()):
                    break
            opened |= found
    assert len(opened) >= len(kinds) > 12
    assert {name: shown for name, shown in opened.items() if "Type:" not in shown} == {}
    assert tab.errors == []


@pytest.fixture(scope="module")
def reports(finished_run, tmp_path_factory):
    """Addresses of both reports by name."""
    curve = np.array([1, 10, 500]), np.array([0.05, 0.2, 0.9])
    records, weights = ranking_records(MODELS), {f"{model}_score": 0.1 for model in MODELS}
    figures = {
        "ranking": plot_ranking(records, {}),
        "hit_rate": plot_hit_rates(dict.fromkeys(MODELS, curve), {}),
        "second_stage": plot_second_stage(weights, dict(list(weights.items())[:2])),
    }
    ranking = tmp_path_factory.mktemp("reports") / "ranking_report.html"
    ranking.write_text(render_ranking(records, beyond_accuracy_records(MODELS), figures, {}), "utf-8")
    catalog = finished_run.catalog
    evaluation = catalog.get("evaluation_report")._get_load_path()
    return {"evaluation": finished_run.project / evaluation, "ranking": ranking}


@pytest.mark.parametrize("name", ["evaluation", "ranking"])
def test_reports_stay_in_their_cards_with_whole_figures_and_can_be_read_by_everybody(tab, reports, name):
    tab.open(reports[name].as_uri())
    tab.run("for (const each of document.querySelectorAll('details')) each.open = true")
    for width, dark in LOOKS:
        tab.look(width, dark)
        found = {
            "console": tab.errors,
            "accessibility": tab.inaccessible(),
            "outside": tab.outside(".card"),
            "figures": tab.run(FIGURES),
        }
        assert {kind: faults for kind, faults in found.items() if faults} == {}, (width, dark)
