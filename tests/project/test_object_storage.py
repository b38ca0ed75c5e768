"""The whole DAG with all that runs read and leave in an object storage."""

import json
import logging
import shutil

import polars as pl
import pytest
import yaml
from kedro.framework.project import pipelines

from codeprint.files import private_cache
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.files.digests import digest
from kedro_provenance.plan import plan
from projects import kedro_command, kedro_run
from reclora_kedro import commands
from reclora_kedro.distributed import checkpoints


@pytest.fixture
def stored_project(fabricated_project, bucket):
    """A project whose folder `data`, raw tables and base LLM lie in a bucket."""
    raw, test = fabricated_project / "data/01_raw/fabricated", fabricated_project / "conf/test"
    bucket.files.put(str(raw), f"{bucket.address}/raw", recursive=True)
    shutil.rmtree(raw)
    (test / "globals.yml").write_text(json.dumps({"data": f"{bucket.address}/team/reclora"}))
    (test / "credentials.yml").write_text(json.dumps({"s3": bucket.options}))
    catalog = (test / "catalog.yml").read_text().replace("data/01_raw/fabricated", f"{bucket.address}/raw")
    (test / "catalog.yml").write_text(catalog)
    parameters = yaml.safe_load((test / "parameters.yml").read_text())
    training = {"training": {"rows_per_checkpoint": 16}}
    parameters["finetuning"] = {"variants": {"shared_lora": training, "reclora": training}}
    (test / "parameters.yml").write_text(json.dumps(parameters))
    return fabricated_project


def is_run(catalog, name):
    return any(node.endswith(name) for node in catalog.load("run_manifest")["nodes"])


def test_a_run_that_is_interrupted_goes_on_elsewhere_and_what_fits_is_kept(stored_project, bucket, monkeypatch, caplog):
    """It takes 14 s: the whole flow runs, every file of which goes over HTTP."""
    write_whole = checkpoints.write_whole

    def interrupted(file, content, options):
        write_whole(file, content, options)
        if "/shared_lora/" in file and "/step-00000004" in file:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_whole", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kedro_run(stored_project, pipeline_names=["__default__"])
    assert bucket.objects("team/reclora/06_models/reclora/adapter")
    assert not bucket.objects("team/reclora/06_models/reclora/checkpoints")
    assert not bucket.objects("team/reclora/06_models/shared_lora/adapter")
    assert len(bucket.objects("team/reclora/06_models/shared_lora/checkpoints")) == 2

    shutil.rmtree(private_cache("kedro-provenance"))  # another machine goes on
    with caplog.at_level(logging.INFO, "reclora_kedro"):
        catalog = kedro_run(stored_project, only_missing_outputs=True)
    assert "Fine-tuning continues at step 5 of 8" in caplog.text
    assert is_run(catalog, "shared_lora.train_adapter")
    assert not is_run(catalog, "reclora.train_adapter")
    assert not is_run(catalog, "train_lens")
    assert not bucket.objects("team/reclora/06_models/shared_lora/checkpoints")
    assert len(catalog.load("metrics")) == 8
    assert catalog.load("run_manifest")["saved"]["scores"] == f"version {catalog.stored('scores').version}"
    left = {path for path in (stored_project / "data").rglob("*") if path.is_file() and path.parent.name != "lineage"}
    # Records, and states that they name, are of each file that has no versions and of each node that leaves nothing.
    shown = {"recommendation.show_recommendations", "evaluation.show_results"}
    of_nodes = {f"node-{digest(name)}.json" for name in shown}
    assert {path.name for path in left} == {".run.lock", "recommendations_csv.json", "learned_weights.json"} | of_nodes

    scores = bucket.objects("team/reclora/07_model_output")
    shutil.rmtree(private_cache("kedro-provenance"))
    for path in left:
        if path.name in of_nodes:
            path.unlink()  # a machine that has shown nothing yet
    catalog = kedro_run(stored_project, only_missing_outputs=True)
    assert set(catalog.load("run_manifest")["nodes"]) == shown
    assert bucket.objects("team/reclora/07_model_output") == scores
    fetched = {
        path.parent.parent.name for path in private_cache("kedro-provenance").glob("versions/**/provenance.json")
    }
    names = ("metrics", "comparisons", "attribution", "candidate_metrics", "candidate_choice", "shortlist_report")
    shown_files = {f"{name}.json" for name in names} | {"recommendations.parquet", "evaluation_report.html"}
    assert fetched == shown_files

    bucket.put("raw/users.csv", bucket.files.cat_file(f"{bucket.address}/raw/users.csv") + b"\n")
    steps = plan(pipelines["ingestion"], catalog)
    assert {step.node.name: step.reasons for step in steps if step.node.outputs and step.reasons} == {
        "ingestion.build_canonical_tables": ("raw_users: other content than it was made of",)
    }


def test_a_bucket_that_is_not_there_is_refused_before_anything_is_read(stored_project):
    (stored_project / "conf/test/globals.yml").write_text(json.dumps({"data": "s3://absent/reclora"}))
    with pytest.raises(RunRefusedError, match=r"there is no bucket absent\. Make it"):
        kedro_run(stored_project)
    assert not (stored_project / "data/.run.lock").exists()


def test_a_user_is_forgotten_in_a_bucket_and_found_in_no_object_of_it(stored_project, bucket):
    """It takes 15 s: a run up to its lists, the forgetting with erasure, and a search of every object by content."""
    raw = ("interactions", "users", "new_interactions")  # ids that no other text has in it
    for name in raw:
        table = pl.read_csv(bucket.files.cat_file(f"{bucket.address}/raw/{name}.csv"), infer_schema=False)
        table = table.with_columns(user_id=pl.format("quokka-{}x", "user_id"))
        bucket.put(f"raw/{name}.csv", table.write_csv().encode())
    without_llm = {"recommendation": {"variant": None}}
    kedro_run(stored_project, without_llm, to_nodes=["recommendation.show_recommendations"])
    bucket.put("team/reclora/08_reporting/page.html", b"<h2>Recommended to user quokka-4x</h2>")
    before = objects_with(bucket, b"quokka-4x")
    assert before
    catalog = kedro_command(
        commands.forget, stored_project, without_llm | {"forget": {"users": ["quokka-4x"], "erase": True}}
    )
    assert catalog.load("users").height
    page = "team/reclora/08_reporting/page.html"  # of nobody's entry
    assert [name for name in objects_with(bucket, b"quokka-4x") if not name.startswith("raw/")] == [page]
    [file] = (stored_project / "data").glob("**/forgetting/*.json")  # the certificate, on the machine that typed it
    certificate = json.loads(file.read_text())
    assert f"{bucket.address}/{page}" in certificate["still_there"]
    assert f"{bucket.address}/team/reclora" in certificate["searched"]
    assert {"interactions", "users", "log", "lens"} <= {each["entry"] for each in certificate["removed"]}


def objects_with(bucket, text):
    """The objects of a bucket with this text, in tables or outside."""
    return sorted(name for name in bucket.objects() if text in content_of(bucket, name))


def content_of(bucket, name):
    content = bucket.files.cat_file(f"{bucket.address}/{name}")
    return pl.read_parquet(content).write_json().encode() if name.endswith(".parquet") else content
