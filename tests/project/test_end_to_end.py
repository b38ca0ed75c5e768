"""The whole DAG on a fabricated log with a tiny random LLM, and what stands in the catalog afterwards."""

import json
import logging
import re
import shutil
import signal

import polars as pl
import pytest
import torch
import yaml
from fastapi import FastAPI
from kedro.framework.project import pipelines
from kedro_viz.api.rest.responses.utils import EnhancedORJSONResponse
from kedro_viz.api.rest.router import router
from kedro_viz.data_access import data_access_manager
from kedro_viz.server import populate_data
from safetensors.torch import load_file
from starlette.testclient import TestClient

from documented import run_documented
from dying import dying_at
from edit_sequences import nested
from forked import exit_code
from projects import MODELS, kedro_run


def versions(project, name):
    return sorted(path.name for path in (project / "data/test").glob(f"0*/**/{name}/*"))


def test_every_boundary_is_stored_and_versioned(finished_run):
    catalog = finished_run.catalog
    stored = [name for name in finished_run.outputs if name in catalog]
    assert set(stored) == set(finished_run.outputs)
    for name in stored:
        assert catalog.get(name).exists(), name
        assert catalog.get(name).resolve_load_version() or name in ("recommendations_csv", "learned_weights"), name


def test_kedro_viz_opens_every_node(finished_run):
    app = FastAPI(default_response_class=EnhancedORJSONResponse)
    app.include_router(router)
    populate_data(data_access_manager, finished_run.catalog, {"__default__": pipelines["__default__"]}, {})
    client = TestClient(app, raise_server_exceptions=False)
    nodes = client.get("/api/main").json()["nodes"]
    answers = {node["name"]: client.get(f"/api/nodes/{node['id']}") for node in nodes}
    assert len(nodes) > 100
    assert {name: answer.text for name, answer in answers.items() if answer.status_code != 200} == {}
    assert all(answers[name].json()["preview"]["data"] for name in ("recommendations", "shortlist", "metrics"))


def test_metrics_are_a_list_of_records_one_per_model(finished_run):
    metrics = finished_run.catalog.load("metrics")
    assert [record["model"] for record in metrics] == MODELS
    for record in metrics:
        assert set(record) == {
            "model", "rows", "positives", "users", "auc", "auc_low", "auc_high", "confidence", "gauc", "gauc_low",
            "gauc_high", "gauc_users", "log_loss", "log_loss_low", "log_loss_high", "accuracy", "accuracy_low",
            "accuracy_high", "constant_log_loss", "constant_accuracy", "split_auc",
            "split_rows",
        }  # fmt: skip
        assert 0 <= record["auc_low"] <= record["auc"] <= record["auc_high"] <= 1
        if record["model"] in ("lens", "boosted_trees", "statistics_probe"):
            assert 0 <= record["split_auc"] <= 1
        assert record["rows"] == metrics[0]["rows"] > record["positives"] > 0
    pairs = finished_run.catalog.load("comparisons")
    assert len(pairs) == len(MODELS) * (len(MODELS) - 1) // 2
    assert all(pair["p_value"] <= pair["p_adjusted"] <= 1 for pair in pairs)


def test_segments_divide_the_test_rows(finished_run):
    segments = finished_run.catalog.load("segments")
    rows = finished_run.catalog.load("metrics")[0]["rows"]
    for by in {record["by"] for record in segments}:
        for model in MODELS:
            own = [record for record in segments if (record["by"], record["model"]) == (by, model)]
            assert sum(record["rows"] for record in own) == rows


def test_the_attribution_names_every_input_of_every_model(finished_run):
    records = finished_run.catalog.load("attribution")
    assert [(record["model"], record["input"]) for record in records] == [
        ("lens", "user"),
        ("lens", "item"),
        ("lens", "history"),
        ("lens", "rating statistics"),
        ("untrained", "prompt"),
        ("untrained", "title"),
        ("shared_lora", "prompt"),
        ("shared_lora", "title"),
        ("reclora", "prompt"),
        ("reclora", "title"),
        ("reclora", "gate inputs"),
    ]
    metrics = {record["model"]: record for record in finished_run.catalog.load("metrics")}
    for record in records:
        assert record["rows"] == metrics[record["model"]]["rows"]
        assert record["auc"] == pytest.approx(metrics[record["model"]]["auc"])


def test_scores_are_of_the_same_test_rows(finished_run):
    scores = finished_run.catalog.load("scores")
    rows = finished_run.catalog.load("test_questions")
    assert scores["model"].unique(maintain_order=True).to_list() == MODELS
    for (_,), part in scores.group_by("model"):
        assert part["row"].to_list() == rows["row"].to_list()
        assert part["user"].to_list() == rows["user_index"].to_list()
    assert scores["score"].is_between(0, 1).all()


def test_no_test_row_is_learnt_from(finished_run):
    samples = finished_run.catalog.load("log").samples
    rows = pl.concat([finished_run.catalog.load(f"{name}_questions") for name in ("learning", "test")])
    rows = rows.join(samples, on="row")
    split_of = dict(rows.select("use", "split").unique().iter_rows())
    assert split_of == {"few_shot": "train", "validation": "validation", "test": "test"}
    latest = samples.group_by("split").agg(first=pl.col("timestamp").min(), last=pl.col("timestamp").max())
    times = {split: (first, last) for split, first, last in latest.iter_rows()}
    assert times["train"][1] <= times["validation"][0] <= times["validation"][1] <= times["test"][0]


def test_the_manifest_ties_the_run_together(finished_run):
    manifest = finished_run.catalog.load("run_manifest")
    assert manifest["environment"] == "test"
    assert manifest["saved"]["scores"].startswith("version ")
    assert manifest["loaded"]["raw_items"].startswith("sha256 ")
    assert manifest["parameters"]["finetuning"]["variants"].keys() == {"shared_lora", "reclora"}
    assert {"kedro", "peft", "torch", "transformers"} <= manifest["packages"].keys()
    assert set(manifest["saved"]) == set(finished_run.outputs)


def test_dirty_rows_are_reported_not_dropped_silently(finished_run):
    report = {record["check"]: record["rows"] for record in finished_run.catalog.load("ingestion_report")}
    assert sum(rows > 0 for rows in report.values()) >= 6, report


def test_the_report_is_one_self_contained_page(finished_run):
    page = finished_run.catalog.load("evaluation_report")
    assert "Recommended to a visitor" not in page  # of lists that the lens reorders, or an LLM, there is no example
    assert "Recommended to user" not in page
    assert "<html" in page
    assert all(model in page for model in MODELS)
    assert 'src="http' not in page


def test_evaluation_alone_reads_the_stored_scores_again(finished_run):
    before = finished_run.catalog.load("metrics")
    scores = versions(finished_run.project, "scores.parquet")
    catalog = run_documented(finished_run.project, "--pipelines evaluation")
    assert catalog.load("metrics") == before
    assert versions(finished_run.project, "scores.parquet") == scores


def test_the_gpu_tag_runs_the_llm_nodes_alone_with_the_same_result(finished_run):
    before = finished_run.catalog.load("reclora.scores")
    catalog = kedro_run(finished_run.project, tags=["gpu"])
    assert catalog.load("reclora.scores")["score"].to_list() == before["score"].to_list()
    nodes = catalog.load("run_manifest")["nodes"]
    assert set(nodes) == {
        "history.embed_items",
        "scoring.score_untrained",
        "shared_lora.train_adapter",
        "shared_lora.score_adapter",
        "reclora.train_adapter",
        "reclora.score_adapter",
        "recommendation.score_questions",
        *(f"{questions}.build_recent_prompts" for questions in ("learning", "test", "recommendation")),
    }


def test_a_run_that_stopped_goes_on_where_it_was_and_ends_with_titles_and_where_results_lie(finished_run, capsys):
    newest = sorted((finished_run.project / "data/test/07_model_output/scores.parquet").iterdir())
    for version in newest:
        shutil.rmtree(version)
    for record in (finished_run.project / "data").rglob("node-*.json"):
        record.unlink()  # what was shown and did not change since is not shown again
    catalog = kedro_run(finished_run.project, only_missing_outputs=True)
    assert catalog.load("scores").height > 0
    assert not any(name.endswith("train_adapter") for name in catalog.load("run_manifest")["nodes"])
    end = capsys.readouterr().out.rpartition("Recommended to user ")[2]
    assert "Lists are made by item_knn_lens" in end
    assert end.index("How well models predict") < end.index("Highest AUC: ") < end.index("recommendations.csv")
    recommended = catalog.load("recommendations")
    first = recommended.filter(user_id=recommended["user_id"][0])
    assert all(title in end for title in first["title"])
    for name in ("recommendations.csv", "recommendations.parquet", "evaluation_report.html"):
        [file] = [line.strip() for line in end.splitlines() if line.endswith(name)]
        assert (finished_run.project / file).is_file()
    assert "kedro serve --env test" in end
    lines = catalog.load("recommendations_csv")
    assert lines["because"].fill_null("").to_list() == recommended["because"].list.join("; ").to_list()


def test_a_run_that_was_killed_while_it_trained_goes_on_from_its_checkpoint(finished_run, tmp_path, caplog):
    """It takes 6 s: a variant is trained in a process that is killed, and on in this one."""
    project = shutil.copytree(finished_run.project, tmp_path / "project")
    for folder in project.glob("data/test/0*/reclora"):
        shutil.rmtree(folder)
    parameters = nested({"finetuning.variants.reclora.training.rows_per_checkpoint": 16})
    code = exit_code(dying_at, "moved:2", kedro_run, project, parameters, only_missing_outputs=True)
    assert code == -signal.SIGKILL
    assert not list(project.glob("data/test/06_models/reclora/adapter/*"))
    assert list(project.glob("data/test/06_models/reclora/checkpoints/*/step-00000004-*"))

    caplog.set_level(logging.INFO, "reclora_kedro")
    catalog = kedro_run(project, only_missing_outputs=True)
    assert "Fine-tuning continues at step 5 of 8" in caplog.text
    assert "reclora.train_adapter" in catalog.load("run_manifest")["nodes"]
    assert not list(project.glob("data/test/06_models/reclora/checkpoints/*"))
    weights, expected = (
        load_file(f"{run.load('reclora.adapter')}/adapter_model.safetensors") for run in (catalog, finished_run.catalog)
    )
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def test_the_published_baselines_and_another_variant_are_a_few_lines_of_yaml(pristine_run, tmp_path):
    """It takes 6 s: four variants are trained and scored."""
    project = shutil.copytree(pristine_run, tmp_path / "project")
    baselines = yaml.safe_load((project / "conf/baselines/parameters.yml").read_text())
    variants = baselines["finetuning"]["variants"]
    changes = {"gate_input": "user", "adapter": {"composition": "sum_of_products"}}
    variants["reclora_user"] = {"like": "reclora", **changes}
    path = project / "conf/test/parameters.yml"
    test = yaml.safe_load(path.read_text())
    test["history"]["short"] = baselines["history"]["short"]
    path.write_text(json.dumps(test | {"finetuning": baselines["finetuning"]}))

    catalog = kedro_run(project, only_missing_outputs=True)

    metrics = {record["model"]: record for record in catalog.load("metrics")}
    assert metrics.keys() == {*MODELS[:-2], "tallrec", "rella", "reclora", "reclora_user"}
    recent, retrieved = (catalog.load(f"test.{history}.prompts") for history in ("recent", "retrieved"))
    assert recent["row"].to_list() == retrieved["row"].to_list()
    assert recent["prompt"].to_list() != retrieved["prompt"].to_list()
    assert metrics["tallrec"]["auc"] != metrics["rella"]["auc"]
    assert json.loads(catalog.get("reclora_user.adapter").preview())["gate_input"] == "user"


@pytest.mark.parametrize(
    "refused",
    [
        {  # all at once
            "history.min_histry": (3, "min_histry"),
            "finetuning.variants.reclora.training.epoch": (3, "epoch"),
            "finetuning.variants.reclora.gate_input": ("item", "gate_input"),
            "finetuning.variants.reclora.adapter.rang": (4, "rang"),
        },
        {
            "finetuning.variants.reclora.adapter.top_k": (9, "top_k is 9; it must be at most num_meta_loras, 8"),
            "finetuning.variants.reclora.history": ("latest", r"reclora\.history is 'latest'"),
        },
        {"prompt.positive_answer": ("Certainly", "Certainly")},
        {"prompt.template": ("other", r"other\.prompt_template: no file .*Beside it: answers\.jinja, ")},
    ],
    ids=lambda refused: ",".join(refused),
)
def test_wrong_parameters_stop_the_run_with_their_names(finished_run, refused):
    before = versions(finished_run.project, "*")
    parameters = nested({name: value for name, (value, _) in refused.items()})
    patterns = [pattern for _, pattern in refused.values()]
    with pytest.raises(Exception, match=patterns[0]) as told:
        kedro_run(finished_run.project, pipeline_names=["finetuning", "history"], runtime_params=parameters)
    assert [pattern for pattern in patterns if not re.search(pattern, str(told.value))] == []
    assert versions(finished_run.project, "*") == before
