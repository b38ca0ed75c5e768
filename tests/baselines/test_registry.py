"""Another baseline is one file and its name in the registry; all else follows."""

import sys

import polars as pl
import pytest
import yaml
from kedro.io import DataCatalog
from kedro.runner import SequentialRunner

from codeprint import fingerprint
from installed import installed
from kedro_provenance.errors import NameRefusedError
from named import names_with
from projects import ROOT
from reclora_kedro.baselines import registry
from reclora_kedro.evaluation.styles import model_styles
from reclora_kedro.history.questions import questions
from reclora_kedro.pipelines import scoring
from reclora_kedro.pipelines.evaluation import create_pipeline as create_evaluation
from reclora_kedro.pipelines.evaluation import nodes as evaluation

TOY = """
    from reclora_kedro.evaluation.styles import Style
    from reclora_kedro.baselines.base import score_table

    NOTE = "the parity of the item"
    STYLE = Style("#123456", "circle", "dot")


    def scores(log, test_questions):
        return score_table(test_questions, test_questions["item_index"].to_numpy() % 2 * 1.0)
"""


@pytest.fixture(autouse=True)
def _toy(tmp_path):
    """A baseline that no file of the project names."""
    with installed(tmp_path, {"toy_baseline.py": TOY}, {"reclora_kedro.baselines": {"toy": "toy_baseline"}}):
        yield
    sys.modules.pop("toy_baseline", None)


def test_a_baseline_scores_the_test_rows_beside_the_other_models(log, tmp_path):
    rows, catalog = log.rows_in("test"), ROOT / "conf/base/catalog_scoring.yml"
    [entry] = [entry for name, entry in yaml.safe_load(catalog.read_text()).items() if name == "{model}_scores"]
    entry["filepath"] = entry["filepath"].replace("${globals:data}", str(tmp_path))
    catalog = DataCatalog.from_config({"{model}_scores": entry | {"versioned": False}})
    catalog["log"], catalog["test_questions"] = log, questions(log.samples[rows], "test")
    pipeline = scoring.create_pipeline(names_with({"scoring.baselines": ["toy"]}))
    SequentialRunner().run(pipeline.only_nodes("scoring.score_toy"), catalog)
    scored = catalog.load("toy_scores")
    assert scored["row"].to_list() == rows.tolist()
    assert set(scored["score"]) == {0.0, 1.0}
    [collect] = pipeline.only_nodes("scoring.collect_scores").nodes
    assert "toy_scores" in collect.inputs


def test_a_baseline_has_a_style_and_a_note_in_every_figure_and_report():
    assert registry.attributes("NOTE", ["lens", "toy"]) == {"toy": "the parity of the item"}
    styles = registry.attributes("STYLE", registry.BASELINES.modules())
    drawn = model_styles(["lens", *styles, "untrained", "shared_lora", "reclora"], styles)
    assert drawn["toy"].color == "#123456"
    assert len(set(drawn.values())) == len(drawn)
    label = pl.Series([0, 1, 0, 1])
    table = pl.DataFrame({"row": range(4), "user": 0, "label": label, "model": "toy", "score": label * 0.5 + 0.1})
    assert evaluation.plot_scores(table, ["toy"])[0].data[1].line.color == "#123456"


def test_no_variant_takes_the_name_of_a_baseline():
    with pytest.raises(NameRefusedError, match=r"finetuning\.variants names 'toy': .* other than .*lens_probe"):
        names_with({"finetuning.variants": {"toy": {"history": "recent"}}})


def test_a_figure_is_drawn_anew_for_an_edit_of_a_baseline_that_it_shows_alone():
    def read(node, shown):
        parts = fingerprint(node.func, packages=["reclora_kedro"], values=[shown]).parts
        return {name.removeprefix("reclora_kedro.baselines.").partition(".")[0] for name in parts}

    baselines = {"boosted_trees", "lens_probe", "statistics_probe", "prompt_likes"}
    for node in create_evaluation(names_with({})).nodes:
        if node.short_name in ("plot_auc", "plot_scores", "write_report"):
            assert "params:scoring.baselines" in node.inputs
            assert read(node, "lens_probe") & baselines == {"lens_probe"}
