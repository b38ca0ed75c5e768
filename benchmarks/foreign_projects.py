"""Put the plug-in into five projects that know nothing of it, by four lines in `settings.py`, and edit each three times.

    python benchmarks/foreign_projects.py

The projects have the features of spaceflights-pandas, spaceflights with an engine and factories, kedro-viz's demo,
astro-airflow-iris and a project of football matches, on small fabricated data. Each is run, run again with
`--only-missing-outputs`, and run so after an edit of a function, of a parameter and of a raw file. A node run is needed if
it leaves other data than before, or reads them, or makes data in memory for one that does; this is known from a run of
everything after each edit.
"""

# ruff: noqa: E501

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edits import enter, in_child, run_project
from tqdm import tqdm

SETTINGS = """
from kedro_provenance.plugin import AtomicCatalog, ProvenanceHooks, ResumingSession

DATA_CATALOG_CLASS = AtomicCatalog
SESSION_CLASS = ResumingSession
HOOKS = (ProvenanceHooks(), {hooks})
CONFIG_LOADER_ARGS = {{"base_env": "base", "default_run_env": "local", "config_patterns": {{"engine": ["engine*"]}}}}
"""
FACTS = """
[tool.kedro]
package_name = "{name}"
project_name = "{name}"
kedro_init_version = "1.7.0"
"""
REGISTRY = """
from kedro.framework.project import find_pipelines


def register_pipelines():
    pipelines = find_pipelines(raise_errors=True)
    pipelines["__default__"] = sum(pipelines.values())
    return pipelines
"""


class Project(NamedTuple):
    """A project and its edits.

    Attributes:
        files: contents by path; `catalog` and `parameters` are files of conf/base.
        edits: of a function, a parameter and raw data: the file, a text in it, and what takes its place.
        hooks: further hooks in its settings.
    """

    name: str
    files: dict[str, str]
    edits: list[tuple[str, str, str]]
    hooks: str = ""


def spaceflights() -> Project:
    processing = """
import pandas as pd
from kedro.pipeline import Node, Pipeline


def _is_true(x):
    return x == "t"


def preprocess_companies(companies):
    companies["iata_approved"] = _is_true(companies["iata_approved"])
    return companies, {"columns": companies.columns.tolist()}


def preprocess_shuttles(shuttles):
    shuttles["price"] = shuttles["price"].str.replace("$", "").astype(float)
    return shuttles


def create_model_input_table(shuttles, companies, reviews):
    rated = shuttles.merge(reviews, left_on="id", right_on="shuttle_id").drop(columns="id")
    return rated.merge(companies, left_on="company_id", right_on="id").dropna()


def create_pipeline(**kwargs):
    return Pipeline([
        Node(preprocess_companies, "companies", ["preprocessed_companies", "companies_columns"], name="preprocess_companies_node"),
        Node(preprocess_shuttles, "shuttles", "preprocessed_shuttles", name="preprocess_shuttles_node"),
        Node(create_model_input_table, ["preprocessed_shuttles", "preprocessed_companies", "reviews"], "model_input_table",
             name="create_model_input_table_node"),
    ])
"""
    science = """
import logging

from kedro.pipeline import Node, Pipeline
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split


def split_data(data, parameters):
    X, y = data[parameters["features"]], data["price"]
    return train_test_split(X, y, test_size=parameters["test_size"], random_state=parameters["random_state"])


def train_model(X_train, y_train):
    return LinearRegression().fit(X_train, y_train)


def evaluate_model(regressor, X_test, y_test):
    score = r2_score(y_test, regressor.predict(X_test))
    logging.getLogger(__name__).info("Model has a coefficient R^2 of %.3f on test data.", score)
    return {"r2_score": score}


def create_pipeline(**kwargs):
    flow = Pipeline([
        Node(split_data, ["model_input_table", "params:model_options"], ["X_train", "X_test", "y_train", "y_test"], name="split_data_node"),
        Node(train_model, ["X_train", "y_train"], "regressor", name="train_model_node"),
        Node(evaluate_model, ["regressor", "X_test", "y_test"], "metrics", name="evaluate_model_node"),
    ])
    return Pipeline(flow, namespace="data_science", inputs="model_input_table", parameters="params:model_options")
"""
    reporting = """
import plotly.graph_objects as go
from kedro.pipeline import Node, Pipeline


def compare_passenger_capacity(shuttles):
    return shuttles.groupby("shuttle_type").mean(numeric_only=True).reset_index()


def create_confusion_matrix(companies):
    return go.Figure(go.Histogram(x=companies["company_rating"].tolist()))


def create_pipeline(**kwargs):
    return Pipeline([
        Node(compare_passenger_capacity, "preprocessed_shuttles", "shuttle_capacity", name="compare_passenger_capacity_node"),
        Node(create_confusion_matrix, "preprocessed_companies", "dummy_confusion_matrix", name="create_confusion_matrix_node"),
    ])
"""
    catalog = """
companies: {type: pandas.CSVDataset, filepath: data/01_raw/companies.csv}
reviews: {type: pandas.CSVDataset, filepath: data/01_raw/reviews.csv}
shuttles: {type: pandas.CSVDataset, filepath: data/01_raw/shuttles.csv}
preprocessed_companies: {type: pandas.ParquetDataset, filepath: data/02_intermediate/preprocessed_companies.parquet}
companies_columns: {type: json.JSONDataset, filepath: data/02_intermediate/companies_columns.json}
preprocessed_shuttles: {type: pandas.ParquetDataset, filepath: data/02_intermediate/preprocessed_shuttles.parquet}
model_input_table: {type: pandas.ParquetDataset, filepath: data/03_primary/model_input_table.parquet}
data_science.regressor: {type: pickle.PickleDataset, filepath: data/06_models/regressor.pickle, versioned: true}
data_science.metrics: {type: json.JSONDataset, filepath: data/08_reporting/metrics.json, versioned: true}
shuttle_capacity: {type: pandas.CSVDataset, filepath: data/08_reporting/shuttle_capacity.csv, save_args: {index: false}}
dummy_confusion_matrix: {type: plotly.JSONDataset, filepath: data/08_reporting/confusion.json, versioned: true}
"""
    companies = "id,company_rating,iata_approved\n" + "".join(f"{i},{i % 5},{'tf'[i % 2]}\n" for i in range(20))
    shuttles = "id,shuttle_type,price,engines,company_id\n"
    shuttles += "".join(f"{i},Type {'ABC'[i % 3]},${100 + 7 * i % 90}.0,{i % 4},{i % 20}\n" for i in range(60))
    reviews = "shuttle_id,review_scores_rating\n" + "".join(f"{i},{(i * 37) % 50}\n" for i in range(60))
    return Project(
        "spaceflights",
        {
            "src/spaceflights/pipelines/data_processing/__init__.py": processing,
            "src/spaceflights/pipelines/data_science/__init__.py": science,
            "src/spaceflights/pipelines/reporting/__init__.py": reporting,
            "conf/base/catalog.yml": catalog,
            "conf/base/parameters_data_science.yml": "model_options:\n  test_size: 0.2\n  random_state: 3\n"
            "  features: [engines, review_scores_rating]\n",
            "data/01_raw/companies.csv": companies,
            "data/01_raw/shuttles.csv": shuttles,
            "data/01_raw/reviews.csv": reviews,
        },
        [
            ("src/spaceflights/pipelines/data_science/__init__.py", '{"r2_score": score}', '{"r2": score}'),
            ("conf/base/parameters_data_science.yml", "random_state: 3", "random_state: 4"),
            ("data/01_raw/reviews.csv", "5,35", "5,36"),
        ],
    )


def factories() -> Project:
    """A session that a hook opens, entries by factories, and one node function in several namespaces."""
    code = """
from functools import partial

from kedro.pipeline import Node, Pipeline


def scale(table, by):
    return table.assign(value=table.value * by)


def describe(table, params):
    return {"mean": round(float(table.value.mean()), params["digits"]), "rows": len(table)}


def join(one, two, three):
    return {"one": one, "two": two, "three": three}


def create_pipeline(**kwargs):
    nodes = []
    for name, by in (("one", 1), ("two", 2), ("three", 3)):
        nodes += [
            Node(partial(scale, by=by), f"raw_{name}", f"{name}.int_scaled", name=f"scale_{name}"),
            Node(describe, [f"{name}.int_scaled", "params:describe"], f"{name}.rep_described", name=f"describe_{name}"),
        ]
    nodes.append(Node(join, [f"{name}.rep_described" for name in ("one", "two", "three")], "summary", name="join"))
    return Pipeline(nodes)
"""
    hooks = """
from kedro.framework.hooks import hook_impl


class EngineHooks:
    @hook_impl
    def after_context_created(self, context):
        self.engine = context.config_loader["engine"]
"""
    catalog = """
"raw_{name}": {type: pandas.CSVDataset, filepath: "data/01_raw/{name}.csv"}
"{namespace}.int_{name}": {type: pandas.ParquetDataset, filepath: "data/02_intermediate/{namespace}/{name}.parquet", versioned: true}
"{namespace}.rep_{name}": {type: json.JSONDataset, filepath: "data/08_reporting/{namespace}/{name}.json", versioned: true}
"{default}": {type: json.JSONDataset, filepath: "data/08_reporting/{default}.json"}
"""
    return Project(
        "factories",
        {
            "src/factories/pipelines/flow/__init__.py": code,
            "src/factories/hooks.py": hooks,
            "conf/base/catalog.yml": catalog,
            "conf/base/engine.yml": "app.name: flow\n",
            "conf/base/parameters.yml": "describe:\n  digits: 2\n",
            **{
                f"data/01_raw/{name}.csv": f"value\n{number}\n1.236\n"
                for number, name in enumerate(("one", "two", "three"))
            },
        },
        [
            ("src/factories/pipelines/flow/__init__.py", '("two", 2)', '("two", 5)'),
            ("conf/base/parameters.yml", "digits: 2", "digits: 1"),
            ("data/01_raw/three.csv", "1.236", "9"),
        ],
        hooks="__import__('factories.hooks', fromlist=['EngineHooks']).EngineHooks()",
    )


def demo() -> Project:
    """Namespaces, two formats of one file by transcoding, plots, metrics, and data that stand in no catalog."""
    ingestion = """
from kedro.pipeline import Node, Pipeline


def apply_types(raw):
    return raw.astype({"spend": float})


def aggregate(companies):
    return companies.groupby("country", as_index=False).spend.sum()


def create_pipeline(**kwargs):
    return Pipeline([
        Node(apply_types, "raw_companies", "typed", name="apply_types"),
        Node(aggregate, "typed", "companies@pandas", name="aggregate"),
    ], namespace="ingestion", inputs="raw_companies", outputs="companies@pandas")
"""
    features = """
from kedro.pipeline import Node, Pipeline


def create_static(companies, params):
    return companies.with_columns(share=companies["spend"] / companies["spend"].sum() * params["scale"])


def create_derived(table):
    return table.with_columns(rank=table["share"].rank())


def create_pipeline(**kwargs):
    return Pipeline([
        Node(create_static, ["companies@polars", "params:features"], "static", name="create_static"),
        Node(create_derived, "static", "derived", name="create_derived"),
    ])
"""
    reporting = """
import plotly.express as px
from kedro.pipeline import Node, Pipeline


def plot(table):
    return px.bar(table.to_pandas(), x="country", y="share")


def measure(table):
    return {"largest": table["share"].max()}


def create_pipeline(**kwargs):
    return Pipeline([Node(plot, "derived", "shares_plot", name="plot"), Node(measure, "derived", "metrics", name="measure")])
"""
    catalog = """
raw_companies: {type: pandas.CSVDataset, filepath: data/01_raw/companies.csv, metadata: {kedro-viz: {layer: raw}}}
companies@pandas: {type: pandas.ParquetDataset, filepath: data/02_intermediate/companies.parquet}
companies@polars: {type: polars.EagerPolarsDataset, file_format: parquet, filepath: data/02_intermediate/companies.parquet}
derived: {type: polars.EagerPolarsDataset, file_format: parquet, filepath: data/04_feature/derived.parquet, versioned: true}
shares_plot: {type: plotly.JSONDataset, filepath: data/08_reporting/shares.json, versioned: true}
metrics: {type: json.JSONDataset, filepath: data/08_reporting/metrics.json, versioned: true}
"""
    return Project(
        "demo",
        {
            "src/demo/pipelines/ingestion/__init__.py": ingestion,
            "src/demo/pipelines/features/__init__.py": features,
            "src/demo/pipelines/reporting/__init__.py": reporting,
            "conf/base/catalog.yml": catalog,
            "conf/base/parameters_features.yml": "features:\n  scale: 1\n",
            "data/01_raw/companies.csv": "country,spend\nFR,2\nFR,3\nDE,7\nIT,1\n",
        },
        [
            ("src/demo/pipelines/reporting/__init__.py", '{"largest": ', '{"max": '),
            ("conf/base/parameters_features.yml", "scale: 1", "scale: 2"),
            ("data/01_raw/companies.csv", "IT,1", "IT,4"),
        ],
    )


def iris() -> Project:
    """All data between nodes in memory, and parameters by name."""
    code = """
import numpy as np
from kedro.pipeline import Node, Pipeline


def split_data(data, parameters):
    shuffled = data.sample(frac=1, random_state=parameters["random_state"])
    cut = int(len(shuffled) * parameters["train_fraction"])
    train, test = shuffled[:cut], shuffled[cut:]
    target = parameters["target_column"]
    return train.drop(columns=target), test.drop(columns=target), train[target], test[target]


def make_predictions(X_train, X_test, y_train):
    squared = np.sum((X_train.to_numpy()[:, None, :] - X_test.to_numpy()[None, :, :]) ** 2, axis=-1)
    return y_train.iloc[squared.argmin(axis=0)]


def report_accuracy(y_pred, y_test):
    return {"accuracy": float((y_pred.to_numpy() == y_test.to_numpy()).mean()), "rows": len(y_test)}


def create_pipeline(**kwargs):
    return Pipeline([
        Node(split_data, ["example_iris_data", "parameters"], ["X_train", "X_test", "y_train", "y_test"], name="split"),
        Node(make_predictions, ["X_train", "X_test", "y_train"], "y_pred", name="make_predictions"),
        Node(report_accuracy, ["y_pred", "y_test"], "accuracy", name="report_accuracy"),
    ])
"""
    rows = "".join(f"{i % 7},{i % 5},{'abc'[i % 3]}\n" for i in range(60))
    return Project(
        "iris",
        {
            "src/iris/pipelines/flow/__init__.py": code,
            "conf/base/catalog.yml": "example_iris_data: {type: pandas.CSVDataset, filepath: data/01_raw/iris.csv}\n"
            "accuracy: {type: json.JSONDataset, filepath: data/08_reporting/accuracy.json}\n",
            "conf/base/parameters.yml": "train_fraction: 0.8\nrandom_state: 3\ntarget_column: species\n",
            "data/01_raw/iris.csv": "a,b,species\n" + rows,
        },
        [
            ("src/iris/pipelines/flow/__init__.py", '{"accuracy": ', '{"share": '),
            ("conf/base/parameters.yml", "train_fraction: 0.8", "train_fraction: 0.6"),
            ("data/01_raw/iris.csv", "3,3,a", "9,9,a"),
        ],
    )


def football() -> Project:
    """Partitions of seasons in and out, a cached table, a table of a database, and a package of its own beside it."""
    code = """
from elo import expected
from kedro.pipeline import Node, Pipeline


def read_seasons(partitions):
    return {name: load().dropna() for name, load in partitions.items()}


def stack(seasons):
    import pandas as pd

    return pd.concat([load().assign(season=name) for name, load in sorted(seasons.items())], ignore_index=True)


def rate(matches, k):
    ratings = {}
    for match in matches.itertuples():
        home, away = (ratings.setdefault(team, 1000.0) for team in (match.home, match.away))
        change = k * (float(match.goals > 0) - expected(home, away))
        ratings[match.home], ratings[match.away] = home + change, away - change
    return ratings


def tabulate(ratings):
    import pandas as pd

    return pd.DataFrame({"team": list(ratings), "rating": list(ratings.values())})


def rank(table):
    return table.sort_values("rating", ascending=False).head(3)


def create_pipeline(**kwargs):
    return Pipeline([
        Node(read_seasons, "raw_seasons", "seasons", name="read_seasons"),
        Node(stack, "seasons", "matches", name="stack"),
        Node(rate, ["matches", "params:k"], "ratings", name="rate"),
        Node(tabulate, "ratings", "table", name="tabulate"),
        Node(rank, "table", "ranking", name="rank"),
    ])
"""
    catalog = """
raw_seasons: {type: partitions.PartitionedDataset, path: data/01_raw/seasons, dataset: pandas.CSVDataset, filename_suffix: .csv}
seasons: {type: partitions.PartitionedDataset, path: data/02_intermediate/seasons, dataset: pandas.ParquetDataset, filename_suffix: .parquet}
matches: {type: CachedDataset, dataset: {type: pandas.ParquetDataset, filepath: data/03_primary/matches.parquet}}
ratings: {type: json.JSONDataset, filepath: data/07_model_output/ratings.json, versioned: true}
table: {type: pandas.SQLTableDataset, table_name: ratings, credentials: db, save_args: {if_exists: replace}}
ranking: {type: pandas.CSVDataset, filepath: data/08_reporting/ranking.csv, save_args: {index: false}}
"""
    season = "home,away,goals\nA,B,{0}\nB,C,1\nC,A,-1\nA,C,{0}\n"
    return Project(
        "football",
        {
            "src/football/pipelines/flow/__init__.py": code,
            "src/elo/__init__.py": "def expected(home, away):\n    return 1 / (1 + 10 ** ((away - home) / 400))\n",
            "conf/base/catalog.yml": catalog,
            "conf/local/credentials.yml": "db: {con: 'sqlite:///data/football.db'}\n",
            "conf/base/parameters.yml": "k: 20\n",
            "data/01_raw/seasons/2024.csv": season.format(1),
            "data/01_raw/seasons/2025.csv": season.format(2),
        },
        [
            ("src/elo/__init__.py", "/ 400", "/ 300"),
            ("conf/base/parameters.yml", "k: 20", "k: 30"),
            ("data/01_raw/seasons/2025.csv", "B,C,1", "B,C,-1"),
        ],
    )


PROJECTS = (spaceflights, factories, demo, iris, football)


def write(project: Project, folder: Path) -> None:
    """Write a project to a folder."""
    package = f"src/{project.name}"
    files = {
        "pyproject.toml": FACTS.format(name=project.name),
        f"{package}/__init__.py": "",
        f"{package}/settings.py": SETTINGS.format(hooks=project.hooks),
        f"{package}/pipelines/__init__.py": "",
        f"{package}/pipeline_registry.py": REGISTRY,
        "conf/local/.gitkeep": "",
        **project.files,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip(), encoding="utf-8")


def run(folder: Path, only_missing: bool) -> list[str]:
    """Run a project; return the names of the nodes that ran."""
    enter(folder)
    return run_project(folder, only_missing_outputs=only_missing)


def run_everything(folder: Path) -> dict[str, dict[str, Any]]:
    """Run everything; return digests of what nodes read and leave, and makers of what they read from memory, by node."""
    from kedro.framework.project import pipelines, settings
    from kedro.pipeline import Node

    enter(folder)
    run, seen = Node.run, dict[str, str]()

    def noting(node: Node, inputs: dict) -> dict:
        outputs = run(node, inputs)
        seen[node.name] = hashlib.sha256(repr([plain(inputs), plain(outputs)]).encode()).hexdigest()
        return outputs

    Node.run = noting  # type: ignore[method-assign, assignment]
    run_project(folder)
    with settings.SESSION_CLASS.create(folder) as session:
        catalog = session.load_context().catalog
    flow = pipelines["__default__"]
    makers = {name: node.name for node in flow.nodes for name in node.outputs if name not in catalog}
    read = {node.name: [makers[name] for name in node.inputs if name in makers] for node in flow.nodes}
    return {"seen": seen, "read": read}


def plain(value: object) -> object:
    """Return data as what has a text that says all of it."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if callable(value) and not hasattr(value, "predict"):
        return plain(value())
    if hasattr(value, "to_csv"):
        return value.to_csv()
    if hasattr(value, "write_csv"):
        return value.write_csv()
    if hasattr(value, "coef_"):
        return value.coef_.tolist()
    if hasattr(value, "to_json"):
        return value.to_json()
    return str(value)


def rows(project: Project, folder: Path) -> Iterator[str]:
    """Yield what a project's runs did, in the columns of the table."""
    write(project, folder)
    ran = in_child(run, folder, False)
    yield str(len(ran))
    yield str(len(in_child(run, folder, True)))
    before = in_child(run_everything, folder)["seen"]
    for file, old, new in project.edits:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text, (file, old)
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")
        ran = in_child(run, folder, True)
        everything = in_child(run_everything, folder)
        after = everything["seen"]
        needed, left = set[str](), [name for name in after if after[name] != before.get(name)]
        while left:
            needed.add(name := left.pop())
            left += set(everything["read"][name]) - needed
        yield f"{len(ran)} of {len(needed)}" + (f", {len(needed - {*ran})} out of date" if needed - {*ran} else "")
        before = after


def main() -> None:
    import kedro.framework.cli  # noqa: F401  # what children need is imported once

    import kedro_provenance.plugin  # noqa: F401

    lines = ["| project | nodes | again | function edited | parameter edited | raw file edited |", "| --- " * 6 + "|"]
    for make in tqdm(PROJECTS, "projects"):
        project = make()
        with tempfile.TemporaryDirectory() as scratch:
            lines.append(f"| {project.name} | {' | '.join(rows(project, Path(scratch, project.name)))} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
