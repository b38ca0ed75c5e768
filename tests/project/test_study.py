"""A study of two cells on a fabricated log with a tiny random LLM."""

import json
from collections import Counter
from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from safetensors.torch import load_file

from dying import begin_and_die
from forked import FORKED
from kedro_provenance.failures import RunRefusedError, is_refusal
from projects import MODELS, copy_project, kedro_command, stored
from reclora_kedro import cells, commands
from reclora_kedro.cells import CellRunner, check_cell, open_cell, run_cell
from reclora_kedro.commands import run_search
from reclora_kedro.distributed import engine
from reclora_kedro.pipelines.checks import checks
from reclora_kedro.study.config import OUTPUTS, SearchConfig
from reclora_kedro.study.grid import Cell, pipelines_of
from reclora_kedro.study.results import cell_result, tabulate
from reclora_kedro.study.search import Search

BRIEF = {"scoring": {"permuted_rows": 20}}


def study(project):
    return kedro_command(commands.study, project, BRIEF)


def traces(project):
    """By its folder, the name and the versions of every node that was run."""
    files = sorted((project / "data/test/02_intermediate/study").glob("*/*/*/*/provenance.json"))
    nodes = {file.parents[3]: json.loads(file.read_text())["recipe"]["node"] for file in files}
    return {place: (node, str([file for file in files if place in file.parents])) for place, node in nodes.items()}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study that was killed in its first training, and then finished: its project, traces then and now, catalog.

    It takes 17 s: two cells are whole flows, in processes of their own.
    """
    project = copy_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "get_context", lambda _: FORKED)
        with patch.context() as first:
            first.setattr(cells, "begin", begin_and_die)
            with pytest.raises(RunRefusedError, match="A process that ran cells died"):
                study(project)
        killed = traces(project)
        assert list((project / "data/test/02_intermediate/study").glob("*/*.checkpoints/*/*/step-*"))
        catalog = study(project)
    return project, killed, traces(project), catalog


def test_a_killed_study_goes_on_with_what_is_missing(studied):
    """It takes over 5 s: the cells of a study run in processes, are killed, and run on."""
    project, killed, finished, _ = studied
    assert 0 < len(killed) < len(finished)
    assert killed.items() <= finished.items()
    assert not any(node.endswith("train_adapter") for node, _ in killed.values())
    assert not list((project / "data/test/02_intermediate/study").glob("*/*.checkpoints/*"))


def test_what_the_cells_have_in_common_is_run_once(studied):
    *_, finished, _ = studied
    times = Counter(node for node, _ in finished.values())
    once = {"ingestion.build_canonical_tables", "history.embed_items", "lens.train_lens"}
    assert {node for node, count in times.items() if count == 1} >= once
    assert times["test.build_recent_prompts"] == times["lens.compute_test_states"] == 1
    assert times["history.draw_learning_questions"] == times["reclora.train_adapter"] == 2
    assert max(times.values()) == 2


def test_a_study_leaves_its_table_and_report_alone(studied):
    project, *_, catalog = studied
    results = catalog.load("study_results")
    assert [record["few-shot rows"] for record in results] == ["64"] * 8 + ["128"] * 8
    assert {record["model"] for record in results} == set(MODELS)
    assert all(record["ms_per_row"] > 0 for record in results)
    assert [record["model"] for record in results if record["train_seconds"]][:3] == ["lens", "shared_lora", "reclora"]
    assert len(catalog.load("study_comparisons")) == 56
    assert "How much do the first few-shot rows teach?" in catalog.load("study_report")
    assert {path.relative_to(project / "data/test").parts[0] for path in stored(project)} == {
        "02_intermediate",
        "08_reporting",
    }


@pytest.fixture
def in_this_process(studied, monkeypatch):
    """What runs cells of the study, where functions of `reclora_kedro.cells` are called in this process."""
    project, *_ = studied
    monkeypatch.chdir(project)
    bootstrap_project(project)
    with KedroSession.create(project, env="test", runtime_params=BRIEF) as session:
        parameters = session.load_context().config_loader["parameters"]
    return CellRunner(
        project,
        project / "data/test/02_intermediate/study",
        str(project / "conf"),
        "test",
        BRIEF,
        parameters,
        None,
        [checks],
    )


def test_the_same_cell_runs_no_node(studied, in_this_process):
    _, _, finished, catalog = studied
    cell = Cell("first_look", {}, 42, {"history.prompt_rows.few_shot": 64, "scoring.permuted_rows": 200})
    run, _ = run_cell(in_this_process, cell, lambda finished: finished)
    assert run.nodes_run == 0 < len(run.flow.nodes)
    assert cell_result(run).models[0]["digest"] == catalog.load("study_results")[0]["digest"]
    scored = {record["model"]: record["scored_rows"] for record in cell_result(run).models}
    rows, permuted = (run.catalog.load(f"reclora.{name}") for name in ("scores", "permuted_scores"))
    retitled, crossed = (permuted.filter(input=name).height for name in ("title", "prompt"))
    assert retitled
    assert scored["shared_lora"] == scored["untrained"] == rows.height + retitled
    assert scored["reclora"] == rows.height + retitled + crossed
    trained = {record["model"]: record["weights"] for record in cell_result(run).models}
    tensors = load_file(Path(run.catalog.load("shared_lora.adapter")) / "adapter_model.safetensors")
    assert trained["shared_lora"] == sum(tensor.numel() for tensor in tensors.values()) < trained["reclora"]
    assert traces(in_this_process.project) == finished


def test_a_cell_that_ends_at_the_lens_trains_and_measures_it_alone(in_this_process):
    cell = Cell("lens_zoo", {"lens": "din"}, 42, {"lens.model": "din"}, OUTPUTS["lens"])
    run, _ = run_cell(in_this_process, cell, cell_result)
    nodes = {node.name for node in open_cell(in_this_process, cell)[0].nodes}
    assert {"lens.train_lens", "lens.measure_lens"} < nodes
    assert not any(name.startswith(("finetuning", "scoring", "reclora", "evaluation")) for name in nodes)
    [record] = tabulate([cell], [run], None)
    assert (record["lens"], record["model"], record["seed"]) == ("din", "lens", 42)
    assert 0 < record["auc_low"] < record["auc"] < record["auc_high"] < 1
    assert 0 < record["validation_auc"] < 1
    assert record["weights"] > 0
    assert record["train_seconds"] > 0
    assert run.pairs == []


def test_a_cell_that_ranks_whole_catalogues_compares_hit_rates(in_this_process):
    settings = {"ranking.lens": False, "ranking.variant": None, "retriever.max_epochs": 1}
    settings["recommendation.sources"] = ["popularity", "item_knn", "linear", "retriever"]
    cell = Cell("found", {"epochs": "1"}, 42, settings, OUTPUTS["ranking"], pipelines_of("ranking"))
    run, _ = run_cell(in_this_process, cell, cell_result)
    records = tabulate([cell], [run], None)
    assert {"popularity", "item_knn", "retriever"} < {record["model"] for record in records}
    assert {record["k"] for record in records} == {10}
    [retriever] = [record for record in records if record["model"] == "retriever"]
    assert 0 < retriever["hit_rate_low"] < retriever["hit_rate"] < 1
    assert 0 < retriever["validation_hit_rate"] < 1
    assert retriever["train_seconds"] > 0
    assert retriever["auc"] is None


def test_trials_of_a_search_share_the_nodes_before_what_they_change(in_this_process, monkeypatch):
    """It takes 6 s: each trial trains a lens, in a process."""
    monkeypatch.setattr(engine, "get_context", lambda _: FORKED)
    before = Counter(node for node, _ in traces(in_this_process.project).values())
    config = SearchConfig(
        title="Mine",
        maximise="lens_training_log.validation_auc",
        trials=2,
        settings={"lens.max_epochs": 1},
        search={"lens.embedding_dim": [8, 16]},
    )
    trials = run_search(Search("mine", config, [42], in_this_process.parameters), in_this_process, workers=1)
    assert [trial["seeds"] for trial in trials] == [1, 1]
    run = Counter(node for node, _ in traces(in_this_process.project).values()) - before
    assert set(run) == {"lens.train_lens"}
    assert (in_this_process.cells / "mine.journal").exists()


def test_a_seed_is_that_of_rows_lens_and_adapters(in_this_process):
    _, catalog = open_cell(in_this_process, Cell("seeds", {}, 7, {}))
    names = ("history.seed", "lens.seed", "finetuning.variants.reclora.training.seed", "bootstrap.seed")
    assert {catalog.load(f"params:{name}") for name in names} == {7}


def test_a_variant_of_a_cell_alone_is_a_copy_with_changes(in_this_process):
    copy = {"like": "reclora", "gate_input": "user", "adapter": {"r": 4}}
    settings = {"finetuning.variants.other": copy, "finetuning.variants.shared_lora": None}
    flow, catalog = open_cell(in_this_process, Cell("copies", {}, 7, settings))
    variants = {name.partition(".")[0] for name in flow.datasets() if name.endswith(".adapter")}
    assert variants == {"reclora", "other"}
    other, reclora = (catalog.load(f"params:finetuning.variants.{name}") for name in ("other", "reclora"))
    assert (other.gate_input, other.adapter.r, other.training) == ("user", 4, reclora.training)


def test_a_cell_whose_nodes_would_fail_is_refused_before_any_is_run(in_this_process):
    cell = Cell("wrong", {"layers": "x"}, 42, {"finetuning.variants.reclora.adapter.target_modules": ["x_proj"]})
    with pytest.raises(
        RuntimeError, match=r"The cell wrong: layers x, seed 42 cannot be run, so no cell was run:.*x_proj"
    ):
        check_cell(in_this_process, cell)


def test_a_wrong_cell_is_refused_by_its_name_and_parameter(in_this_process, monkeypatch):
    monkeypatch.setattr(engine, "get_context", lambda _: FORKED)
    cell = Cell("wrong", {"rank": "0"}, 42, {"finetuning.variants.reclora.adapter.r": 0})
    with pytest.raises(
        RuntimeError, match=r"The cell wrong: rank 0, seed 42 cannot be run, so no cell was run:(.|\n)*\br\b"
    ) as error:
        in_this_process.run([cell], str, workers=1)
    assert is_refusal(error.value)  # which `kedro run` prints without a stack trace
