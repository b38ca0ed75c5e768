"""`kedro run --pipelines base_model` after a finished run, by all of its steps."""

import math
import sys

import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer

from kedro_provenance.failures import RunRefusedError
from projects import kedro_run
from reclora_extras.base_models.nodes import base_model_tables
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.terminal import show

SIZES = {"drop_layers": {"layers": 1}}
STEP = """
from reclora_extras.base_models.steps import Step

class Same(Step):
    @staticmethod
    def take(llm, material, config):
        return llm, {}
"""


@pytest.fixture(scope="module", autouse=True)
def _sizes(finished_run):
    """Sizes for the tiny LLM."""
    file = finished_run.project / "conf/test/parameters_base_model.yml"
    file.write_text(yaml.safe_dump({"base_model": SIZES}))


def test_steps_that_the_llm_has_too_few_layers_for_are_refused_before_anything_is_run(finished_run):
    steps = {"base_model": {"steps": ["drop_layers"], "drop_layers": {"layers": 7}}}
    with pytest.raises(RunRefusedError, match=r"drop_layers\.layers is 7, but of 2 layers of the base LLM only 0"):
        kedro_run(finished_run.project, steps, pipeline_names=["base_model"])


def test_each_step_is_measured_and_the_prepared_llm_is_one_line_of_configuration(
    finished_run, capsys, spare, tmp_path, monkeypatch
):
    spare(1, 0)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/same.py").write_text(STEP)
    monkeypatch.syspath_prepend(tmp_path)
    steps = {"base_model": {"steps": ["drop_layers", "outside.same"]}}
    catalog = kedro_run(finished_run.project, steps, pipeline_names=["base_model"])
    report = catalog.load("base_model_report")
    assert [record["step"] for record in report] == ["as it came", *steps["base_model"]["steps"]]
    assert all(record["milliseconds_per_row"] > 0 and 0 < record["auc"] < 1 for record in report)
    assert all(record["auc_low"] <= record["auc"] <= record["auc_high"] for record in report)
    assert [record["auc_difference"] for record in report[1:]] == [
        pytest.approx(record["auc"] - report[0]["auc"]) for record in report[1:]
    ]
    scores = catalog.load("base_model_scores").filter(model="as it came")
    assert report[0]["auc"] == pytest.approx(roc_auc_score(scores["label"], scores["score"]))
    came, dropped, same = report
    assert 1 < came["perplexity"] < math.inf
    assert came["parameters"] > dropped["parameters"] == same["parameters"]
    assert came["auc"] != dropped["auc"] == same["auc"]
    assert {"num_hidden_layers", "last_loss"} < dropped["account"].keys()
    folder = finished_run.project / catalog.load("prepared_llm")
    loaded, ours = (
        AutoModelForCausalLM.from_pretrained(folder),
        load_language_model(str(folder), dtype="float32", device="cpu"),
    )
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)("Drama Film 7: Yes")["input_ids"]])
    torch.testing.assert_close(loaded(input_ids=ids).logits, ours.model(input_ids=ids).logits)
    assert loaded.config.num_hidden_layers == 1
    show(base_model_tables(report))
    assert "drop_layers" in capsys.readouterr().out
    configured = finished_run.project / "conf/test/catalog.yml"
    configured.write_text(configured.read_text().replace("data/01_raw/fabricated/llm", str(folder)))
    of_new_llm = {"allow_mixed": True}  # the log's items are embedded by the former
    catalog = kedro_run(finished_run.project, of_new_llm, pipeline_names=["finetuning"])
    assert catalog.load("base_llm").model.config.num_hidden_layers == 1
    del sys.modules["outside.same"], sys.modules["outside"]
