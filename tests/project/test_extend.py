"""What docs/guides/extend.md shows works from outside the project."""

import re
import sys
import tomllib

import numpy as np
import polars as pl
import pytest

from bad_parameters import PARAMETERS
from cycle_log import cycle_log
from few_rows import random_prompts
from installed import installed
from kedro_provenance.failures import RunRefusedError
from named import names_with
from parity_log import config, log
from projects import ROOT, kedro_run
from reclora_kedro.adapters import methods
from reclora_kedro.adapters.registry import read_settings
from reclora_kedro.baselines import registry
from reclora_kedro.candidates.item_model import NoSettings, Training
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.candidates.next_item.training import fit_retriever
from reclora_kedro.history.questions import questions
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.pipelines import scoring
from reclora_kedro.recommendation.choice import model_of
from reclora_kedro.recommendation.config import RecommendationConfig

__all__ = ["config", "log"]

GUIDE = (ROOT / "docs/guides/extend.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", GUIDE, flags=re.DOTALL))
[TOML] = re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def _package(tmp_path_factory):
    points = tomllib.loads(TOML)["project"]["entry-points"]
    with installed(tmp_path_factory.mktemp("site"), {"my_package/__init__.py": "", **FILES}, points):
        yield
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]


def test_a_lens_is_trained_and_loaded_by_its_dotted_path(log, config, tmp_path):
    from reclora_kedro.lens.base import load_lens

    lens, training = fit_lens(log, config.model_copy(update={"model": "my_package.lens", "max_epochs": 2}))
    lens.save(tmp_path)
    assert type(load_lens(tmp_path)).__module__ == "my_package.lens"
    assert training.height > 0


def test_a_source_finds_items_by_its_dotted_path(log):
    training = Training.of_all(log)
    [source] = validated_names(["my_package.source"])
    moments = training.moments(log.now(pl.DataFrame({"user_index": [0, 1]})))
    lists = model_of(source).fit(training, NoSettings()).top(moments, 5)
    length = log.items["title"].str.len_chars().to_numpy()
    for row, items in enumerate(lists.items):
        last = length[log.sequences.item_index[log.sequences.ends[row] - 1]]
        near = np.sort(np.abs(length[moments.mask[row]] - last))[:5]
        assert np.abs(length[items] - last).tolist() == near.tolist()


def validated_names(sources):
    return RecommendationConfig.model_validate(PARAMETERS["recommendation"] | {"sources": sources}).sources


def test_a_retriever_is_trained_by_its_dotted_path():
    small = {"model": "my_package.retriever", "max_epochs": 1, "device": "cpu"}
    retriever, _ = fit_retriever(cycle_log(), RetrieverConfig(**PARAMETERS["retriever"] | small))
    assert type(retriever).__name__ == "RunningMean"


def test_an_adapter_of_a_method_is_saved_and_loaded(tiny_llm, tmp_path):
    settings = read_settings({"method": "my_package.adapter"})
    prompts = random_prompts(4)
    adapted = methods.new_adapter(tiny_llm.model, settings, prompts.gate_inputs, seed=0)
    adapted.save_pretrained(tmp_path)
    base = adapted.unload()
    sys.modules.pop("my_package.adapter")
    assert methods.method_of(methods.load_adapter(base, str(tmp_path))).name == "my_package.adapter"


def test_a_baseline_scores_test_rows_by_its_dotted_path(log):
    named = {"scoring.baselines": ["boosted_trees", "my_package.baseline"]}
    [node] = scoring.create_pipeline(names_with(named)).only_nodes_with_outputs("my_package.baseline_scores").nodes
    asked = questions(log.samples_in("test"), "test")
    scored = node.run({"log": log, "test_questions": asked})["my_package.baseline_scores"]
    for name, value in (
        ("NOTE", "the share of likes of the user in the training split"),
        ("LABEL", "share of the user's likes"),
    ):
        assert registry.attributes(name, ["my_package.baseline"]) == {"my_package.baseline": value}
    assert scored["row"].to_list() == asked["row"].to_list()
    assert scored["score"].is_between(0, 1).all()


def test_a_pipeline_runs_with_its_own_settings_and_entries(fabricated_project, monkeypatch):
    from reclora_kedro import settings
    from reclora_kedro.extensions import conf_folders

    monkeypatch.setitem(settings.CONFIG_LOADER_ARGS, "below_base", conf_folders())  # which a new process finds
    kedro_run(fabricated_project, pipeline_names=["ingestion"])
    shown = {"longest_titles": {"items": 2}}
    catalog = kedro_run(fabricated_project, shown, pipeline_names=["longest_titles"])
    assert len(catalog.load("longest_titles")) == 2
    with pytest.raises(RunRefusedError, match=r"longest_titles\.item is no parameter.*longest_titles\.items"):
        kedro_run(fabricated_project, {"longest_titles": {"item": 2}}, pipeline_names=["longest_titles"])
    with pytest.raises(RunRefusedError, match=r"longest_title is no pipeline. The nearest one is longest_titles"):
        kedro_run(fabricated_project, pipeline_names=["longest_title"])
