"""A plan sees edits of code and of the catalog, wherever a node meets them."""

from importlib import import_module

import pytest
from kedro.pipeline import Node, Pipeline

from codeprint import forget
from kedro_provenance import catalog as catalog_module
from kedro_provenance import plan as plan_module
from kedro_provenance import project as project_of_kedro
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.plan import digest_of_dataset, digest_of_input, plan
from kedro_provenance.runner import IncrementalRunner

FILES = {
    "seen/__init__.py": "",
    "seen/models/__init__.py": "",
    "seen/models/sim.py": "def score(x):\n    return x + 1\n",
    "seen/models/din.py": "def score(x):\n    return x + 2\n",
    "seen/datasets.py": "from kedro_datasets.json import JSONDataset\nclass Scores(JSONDataset): ...\n",
    "seen/nodes.py": "def train(config):\n    return config\n\ndef update(model, news):\n    return model | news\n",
    "seen/scoring.py": """
from importlib import import_module

def score(model):
    return import_module(f"seen.models.{model['model']}").score(1)
""",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a package and what a run of its nodes left; none of those after the first one reads a parameter."""
    folder = tmp_path_factory.mktemp("seen")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "news.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for module in (project_of_kedro, plan_module, catalog_module):
            patch.setattr(module, "project_packages", lambda: ("seen",))
        forget()
        IncrementalRunner().run(flow_of(), catalog_of(folder), only_missing_outputs=True)
        assert out_of_date(flow_of(), catalog_of(folder)) == {}
        yield folder
    forget()


def flow_of(read=("model", "news")):
    nodes = import_module("seen.nodes")
    return Pipeline(
        [
            Node(nodes.train, "params:lens", "model", name="train"),
            Node(nodes.update, [*read], "updated", name="update"),
            Node(import_module("seen.scoring").score, "updated", "scores", name="score"),
        ]
    )


def catalog_of(folder, **changes):
    kinds = {"news": "json.JSONDataset", "model": "json.JSONDataset", "updated": "json.JSONDataset"}
    entries = {
        name: {"type": kind, "filepath": str(folder / f"{name}.json"), "versioned": name != "news"}
        | changes.get(name, {})
        for name, kind in (kinds | {"scores": "seen.datasets.Scores"}).items()
    }
    catalog = AtomicCatalog.from_config(entries)
    catalog["params:lens"] = {"model": "sim", "path": "no name"}
    return catalog


def out_of_date(flow, catalog):
    return {step.node.name: step.reasons for step in plan(flow, catalog) if step.reasons}


@pytest.mark.parametrize(
    ("edited", "old", "new", "nodes"),
    [
        ("nodes.py", "return config", "return {**config}", ["train", "update", "score"]),
        ("nodes.py", "model | news", "{**model, **news}", ["update", "score"]),
        ("nodes.py", "def update", "def helper(): ...\n\ndef update", []),
        ("scoring.py", ".score(1)", ".score(2)", ["score"]),
        ("models/sim.py", "x + 1", "x + 3", ["score"]),  # which the parameter of a node before it names
        ("models/din.py", "x + 2", "x + 3", []),
        ("datasets.py", "...", "INDENT = 1", ["score"]),
    ],
)
def test_an_edit_of_code_is_seen_where_it_is_run(project, edited, old, new, nodes):
    file, text = project / "seen" / edited, FILES[f"seen/{edited}"]
    assert old in text
    try:
        file.write_text(text.replace(old, new))
        forget()
        assert [*out_of_date(flow_of(), catalog_of(project))] == nodes
    finally:
        file.write_text(text)
        forget()


OTHER_WAY = "updated is loaded or saved in another way"


@pytest.mark.parametrize(
    ("change", "nodes"),
    [
        ({"save_args": {"indent": 1}}, ["update"]),
        ({"fs_args": {"open_args_load": {"encoding": "utf-8-sig"}}}, ["update", "score"]),
        ({"type": "seen.datasets.Scores"}, ["update", "score"]),
        ({"validator": {"class": "seen.datasets.Scores"}}, ["update", "score"]),
        ({"metadata": {"owner": "me"}}, []),
    ],
)
def test_an_edit_of_how_the_catalog_loads_or_saves_is_seen(project, change, nodes):
    found = out_of_date(flow_of(), catalog_of(project, updated=change))
    assert [name for name, reasons in found.items() if OTHER_WAY in reasons] == nodes


def test_inputs_in_another_order_are_seen(project):
    assert [*out_of_date(flow_of(read=("news", "model")), catalog_of(project))] == ["update", "score"]


def test_an_edit_of_a_validator_is_seen(project):
    validator = {"validator": {"class": "seen.checks.Schema"}}
    catalog = catalog_of(project, updated=validator, news=validator)
    digests, raw_digests = [], []
    for text in ("VALUE = 1\n", "VALUE = 2\n"):
        (project / "seen/checks.py").write_text(text)
        forget()
        catalog.raw_digests.clear()
        digests.append(digest_of_dataset("updated", catalog, "load_args", ()))
        raw_digests.append(digest_of_input("news", catalog))
    assert digests[0] != digests[1]
    assert raw_digests[0] != raw_digests[1]
