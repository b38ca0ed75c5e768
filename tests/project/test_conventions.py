"""Conventions that the configuration and the code keep."""

import inspect
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from functools import reduce
from itertools import chain
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple, get_args

import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_viz.data_access.managers import DataAccessManager
from kedro_viz.server import populate_data

from bad_parameters import PARAMETERS, types_of_parameters
from kedro_provenance.layers import layer_of
from kedro_provenance.parameters import Block
from kedro_provenance.project import is_alias
from kedro_provenance.runner import IncrementalRunner
from reclora_kedro.adapters.base import AdapterSettings
from reclora_kedro.adapters.reclora.settings import RecLoraSettings
from reclora_kedro.evaluation.scores import collect_scores
from reclora_kedro.extensions import conf_folders
from reclora_kedro.pipelines.evaluation.nodes import write_report
from reclora_kedro.pipelines.registry import PIPELINES

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
LAYER_FOLDERS = {
    "raw": "01_raw",
    "intermediate": "02_intermediate",
    "primary": "03_primary",
    "feature": "04_feature",
    "model_input": "05_model_input",
    "models": "06_models",
    "model_output": "07_model_output",
    "reporting": "08_reporting",
}
HAS_EXTRAS = "black_box" in PIPELINES.modules()
OF_EXTRAS = ("amazon-beauty", "stages", "tasks", "two-domains")  # environments that set parameters of extras
READ_BY_EXTRAS = ("champion.candidate_choice",)  # by monitoring alone
NO_ENVIRONMENTS = ("base", "local", "studies", *(() if HAS_EXTRAS else OF_EXTRAS))
ENVIRONMENTS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in NO_ENVIRONMENTS)
BASE = [CONF / "base", *conf_folders()]
PARAMETER_FILES = sorted(
    [*CONF.glob("**/parameters*.yml"), *CONF.glob("**/globals.yml")]
    + [file for folder in conf_folders() for file in folder.glob("parameters*.yml")]
)


def identity(path):
    return f"{path.parents[1].name}/{path.name}" if path.parent.name == "conf" else str(path.relative_to(CONF))


class Whole(NamedTuple):
    """All pipelines, and their nodes, some of which make the same entries."""

    pipelines: dict[str, Pipeline]

    @property
    def nodes(self) -> set[Node]:
        return {node for pipeline in self.pipelines.values() for node in pipeline.nodes}

    def datasets(self):
        return {name for node in self.nodes for name in (*node.inputs, *node.outputs)}

    def all_outputs(self):
        return {name for node in self.nodes for name in node.outputs}


HELD_AGAINST_ANOTHER = {"kind": "preference", "references": ["shared_lora", "lens"]}
WITH_EXTRAS = {
    "finetuning": {"variants": {"reclora": {"training": {"objective": HELD_AGAINST_ANOTHER}}}},
}


@pytest.fixture(scope="module")
def project():
    bootstrap_project(ROOT)
    with_llm = {
        "history": {"item_embedding": {"encoders": ["sentence_encoder", "tuned_item_encoder"]}},
        "recommendation": {"variant": "reclora"},
        "update": {"variant": "reclora", "retriever": True},
        **(WITH_EXTRAS if HAS_EXTRAS else {}),
    }  # it has nodes that the default lacks
    with KedroSession.create(ROOT, runtime_params=with_llm) as session:
        context = session.load_context()
        yield context, Whole(dict(pipelines))


@pytest.fixture(scope="module")
def entries():
    written = {
        name: entry
        for folder in BASE
        for path in folder.glob("catalog*.yml")
        for name, entry in yaml.safe_load(path.read_text()).items()
    }
    same = {name: entry.strip("${}") for name, entry in written.items() if isinstance(entry, str)}
    return written | {name: written[other] for name, other in same.items()}


def test_every_node_says_what_it_does(project):
    _, whole = project
    undocumented = [node.name for node in whole.nodes if not inspect.getdoc(inspect.unwrap(node.func))]
    assert undocumented == []  # the reference shows the first line


def test_every_catalog_entry_is_used(project, entries):
    _, whole = project
    used = whole.datasets() | {"run_manifest", "champion", *(() if HAS_EXTRAS else READ_BY_EXTRAS)}
    for name in entries:
        pattern = re.compile(re.sub(r"\\{\w+\\}", r"\\w+", re.escape(name)))
        assert any(pattern.fullmatch(dataset) for dataset in used), name


def test_every_boundary_is_a_catalog_entry(project):
    context, whole = project
    catalog = context.catalog  # is made anew each time
    missing = {name for name in whole.datasets() if not name.startswith("params:") and name not in catalog}
    assert not missing


def test_every_entry_has_a_layer_and_lies_in_its_folder(entries):
    for name, entry in entries.items():
        layer = layer_of(name, str(entry.get("filepath")), entry.get("metadata"))
        assert layer in LAYER_FOLDERS, name
        path = entry.get("filepath", "")
        elsewhere = ("${package_file:", "${conf:")  # of packages, and of the project
        if path and not is_alias(name) and not path.startswith(elsewhere):
            assert path.startswith(f"${{globals:data}}/{LAYER_FOLDERS[layer]}/"), name


WITHOUT_VERSIONS = {
    "recommendations_csv",  # the newest `recommendations`, at a path that other programs read
    "similar_items_csv",  # likewise
    "learned_weights",  # which may be large, and can be learned again
}


def test_everything_that_is_saved_is_versioned(project):
    context, whole = project
    catalog = context.catalog
    for name in whole.all_outputs() - WITHOUT_VERSIONS | {"run_manifest"}:
        dataset = catalog.get(name)
        assert isinstance(dataset, MemoryDataset) or dataset.resolve_save_version() is not None, name


def test_nothing_is_saved_as_a_pickle(entries):
    assert not [name for name, entry in entries.items() if "pickle" in entry["type"].lower()]


def test_each_data_set_has_a_data_folder_of_its_own():
    folders = {"base": "data"}
    for environment in ENVIRONMENTS:
        catalog = CONF / environment / "catalog.yml"
        if catalog.exists() and "raw_interactions" in yaml.safe_load(catalog.read_text()):
            folders[environment] = yaml.safe_load((CONF / environment / "globals.yml").read_text())["data"]
    assert all(folder == f"data/{name}" for name, folder in folders.items() if name != "base")
    assert len(folders) > (10 if HAS_EXTRAS else 9)


def test_the_published_baselines_differ_in_history_and_meta_loras_alone():
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env="baselines") as session:
        variants = session.load_context().params["finetuning"]["variants"]
    variants = {name: variant.model_dump() for name, variant in variants.items() if variant is not None}
    differences = {name: (v.pop("history"), v["adapter"].pop("num_meta_loras")) for name, v in variants.items()}
    assert variants["reclora"]["adapter"]["target_modules"] == ["q_proj", "v_proj"]
    assert differences == {"tallrec": ("recent", 1), "rella": ("retrieved", 1), "reclora": ("retrieved", 16)}
    assert variants["tallrec"] == variants["rella"] == variants["reclora"]


def test_every_parameter_is_used(project):
    context, whole = project
    used = {name.removeprefix("params:") for name in whole.datasets() if name.startswith("params:")}
    used |= {"dry_run", "champion", "service", "tracking"}  # which the start of a run reads, the service, and hooks
    used |= {"update.variant", "update.retriever"}  # by which the pipeline is made

    def walk(block, path):
        if any(path == name or path.startswith(f"{name}.") for name in used):
            return
        assert isinstance(block, dict), f"parameter {path} is used by no node"
        for key, value in block.items():
            if key.startswith("_"):  # what a file's own anchors share
                continue
            walk(value, f"{path}.{key}" if path else key)

    walk(context.config_loader["parameters"], "")


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=identity)
def test_every_parameter_has_a_comment(path):
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        is_value = re.match(r"\s*\w+:\s*[^\s#]", line)
        is_shared = "<<" in line or "*" in line or "&" in line  # YAML anchors and what is taken from them
        assert not is_value or is_shared or "#" in line, f"{path.name}:{number}: {line}"


PAPERS = ("composition", "last_layers")  # of an adapter that PEFT makes without these: as in the paper, in all layers


class Parameter(NamedTuple):
    """A field of a model of parameters."""

    annotation: Any
    described: bool
    default: tuple[Any, ...]  # none or one


def parameters_of(model):
    """The fields of a block of parameters, or of the adapter's settings, by name; none of any other type."""
    if isinstance(model, type) and issubclass(model, Block):
        for name, field in model.model_fields.items():
            default = () if field.is_required() else (field.get_default(call_default_factory=True),)
            yield name, Parameter(field.annotation, bool(field.description), default)
    if model is AdapterSettings:  # in conf/base, RecLoRA's: PEFT's too, which has a default for each
        for field in fields(RecLoraSettings):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            yield field.name, Parameter(field.type, "help" in field.metadata, (default,))


def test_what_a_parameter_means_stands_in_conf_alone():
    models = [Block, AdapterSettings]
    for model in models:  # grows
        models += model.__subclasses__() if model is not AdapterSettings else []
        assert not [name for name, parameter in parameters_of(model) if parameter.described], model


def test_a_default_in_code_is_the_value_of_conf_base():
    values = PARAMETERS
    models = types_of_parameters()
    del models["finetuning.variants.shared_lora"]  # another choice
    while models:
        path, model = models.popitem()
        value = reduce(lambda block, name: block[name], path.split("."), values)
        alternatives = [model, *get_args(model)]  # a block, or null
        for name, parameter in chain.from_iterable(map(parameters_of, alternatives)):
            if not isinstance(value, dict) or name not in value or (name in PAPERS and model is AdapterSettings):
                continue
            assert [*parameter.default] in ([], [value[name]]), f"{path}.{name}"
            models[f"{path}.{name}"] = parameter.annotation


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=identity)
def test_every_parameter_file_says_what_it_is_for(path):
    assert path.read_text().startswith("# ")


def test_gpu_nodes_carry_their_tag(project):
    _, whole = project
    models = {"base_llm", "sentence_encoder", "prepared_llm"}
    loads_model = {node.name for node in whole.nodes if models & {*node.inputs}}
    assert loads_model == {node.name for node in whole.nodes if "gpu" in node.tags}


def test_kedro_says_what_each_pipeline_is_for():
    shown = CliRunner().invoke(KedroCLI(ROOT), ["registry", "list"])
    lines = {line.split()[0]: line.split()[1:] for line in shown.output.splitlines() if line[0] != " "}
    assert lines.keys() == set(pipelines)
    assert all(lines.values())


@pytest.mark.parametrize("name", ["study", "forget"])
def test_what_does_more_than_a_run_is_a_command(name):
    for option, value in (("--pipelines", f"ingestion,{name}"), ("--pipeline", name)):
        shown = CliRunner().invoke(KedroCLI(ROOT), ["run", option, value])
        assert f"{option} names {name}, which does more than a run: type `kedro {name}`" in shown.output
    assert CliRunner().invoke(KedroCLI(ROOT), [name, "--help"]).exit_code == 0


def test_no_node_has_more_than_seven_inputs_besides_parameters(project):
    _, whole = project
    joins = (collect_scores, write_report)  # a table of each model, every figure
    entries = {node: [name for name in node.inputs if "params:" not in name] for node in whole.nodes}
    assert not [node.name for node in whole.nodes if len(entries[node]) > 7 and node.func not in joins]


def test_every_node_stands_in_a_namespace(project):
    _, whole = project
    assert not [node.name for node in whole.nodes if not node.namespace]


def sorted_layers(catalog, pipelines):
    """The layers of each pipeline in the order in which kedro-viz shows them."""
    shown = DataAccessManager()
    populate_data(shown, catalog, pipelines, {})
    for (
        name
    ) in pipelines:  # as the page does, in whose graph a step is one node from all that it reads to all that it leaves
        shown.create_modular_pipelines_tree_for_registered_pipeline(name)
    return {name: shown.get_sorted_layers_for_registered_pipeline(name) for name in pipelines}


def test_kedro_viz_can_sort_the_layers_of_pipelines_with_a_variant(project):
    context, whole = project
    assert all(sorted_layers(context.catalog, whole.pipelines).values())


def test_titles_are_shown_before_what_only_measures_models_and_before_an_llm_is_trained():
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env="base") as session:
        session.load_context()
        order = [node.name for node in IncrementalRunner().ordered(pipelines["__default__"])]
    before = order[: order.index("recommendation.show_recommendations")]
    assert "recommendation.choose_method" in before
    assert not [name for name in before if name == "lens.measure_lens" or name.startswith("scoring.")]
    assert not [name for name in before if "adapter" in name or "prompts" in name]


def test_the_resolved_catalog_is_plain_yaml(project):
    context, whole = project
    resolved = context.catalog.resolve_patterns([whole.pipelines["ranking"]])
    assert yaml.safe_load(yaml.dump(resolved)) == resolved
    assert resolved["ranking_metrics"].keys() == {"type", "filepath", "versioned"}


@pytest.fixture(scope="module")
def layers_of():
    """The layers of all pipelines in a session, sorted once for environments whose nodes and layers are the same."""
    known = {}

    def layers(context):
        entries = context.config_loader["catalog"].items()
        layers = {name: layer_of(name, str(each.get("filepath")), each.get("metadata")) for name, each in entries}
        nodes = {name: sorted(map(str, pipeline.nodes)) for name, pipeline in pipelines.items()}
        if (key := str((layers, nodes))) not in known:
            known[key] = sorted_layers(context.catalog, dict(pipelines))
        return known[key]

    return layers


@pytest.mark.parametrize("environment", ["base", *ENVIRONMENTS])
def test_every_environment_resolves_and_kedro_viz_can_sort_its_layers(environment, layers_of):
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env=environment) as session:
        context = session.load_context()
        assert context.params
        catalog = context.catalog
        assert all(name in catalog for name in pipelines["__default__"].datasets() if "params:" not in name)
        layers = layers_of(context)
    assert all(layers.values())  # none where they go round in a circle
    assert layers["__default__"] == [layer for layer in LAYER_FOLDERS if layer in layers["__default__"]]


def test_a_command_imports_what_it_is_for_alone():
    """It takes 4 s: a process starts from nothing, and makes every dataset of the default flow."""
    code = f"""
        import sys
        from pathlib import Path
        from click.testing import CliRunner
        from kedro.framework.cli.cli import KedroCLI
        from kedro.framework.project import pipelines
        from kedro.framework.session import KedroSession

        HEAVY = "torch transformers peft sklearn scipy.stats pandas pandera plotly lightgbm ray mlflow optuna".split()

        def loaded(*names):
            return [name for name in names if name in sys.modules]

        assert CliRunner().invoke(KedroCLI(Path({str(ROOT)!r})), ["registry", "list"]).exit_code == 0
        assert not loaded(*HEAVY)
        pipelines.set_requested(["ingestion"])
        assert pipelines["ingestion"].nodes
        assert not loaded(*HEAVY, "reclora_kedro.pipelines.lens")
        pipelines.set_requested(None)
        with KedroSession.create({str(ROOT)!r}) as session:
            context = session.load_context()
        assert pipelines["__default__"].nodes
        assert context.params["finetuning"]["variants"]["reclora"].training.epochs
        assert not loaded(*HEAVY)
        catalog = context.catalog
        assert all(catalog.get(name) for name in pipelines["__default__"].datasets())
        assert loaded(*HEAVY) == ["pandas", "plotly"]  # by Kedro's datasets of parameters and of figures
    """
    subprocess.run([sys.executable, "-c", dedent(code)], check=True, cwd=ROOT)


def test_no_lock_or_index_address_is_committed():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "index-url" not in lock
    assert lock.count("--hash=sha256:") > 500


OF_THE_RECOMMENDER = (
    r"champion|challenger|torch|gpu|lens|stud(y|ies)|adapters?|(re|q)?clora\w*|llms?|recommend\w*|sasrec|popularity"
)


def test_the_plug_in_has_no_word_of_the_recommender():
    plug_in = ROOT / "src/kedro_provenance"
    words = re.compile(rf"\b({OF_THE_RECOMMENDER})\b", re.IGNORECASE)
    found = {
        f"{file.name}: {line.strip()}"
        for file in (plug_in / "README.md", *plug_in.rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if words.search(line)
    }
    assert found == set()
