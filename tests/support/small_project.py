"""A small Kedro project of its own, and sessions of it, each in a process that has known no other project."""

import os
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

DAG = Path(__file__).parents[2] / "deploy/airflow/dag.j2"

FILES = {
    "pyproject.toml": """
[tool.kedro]
package_name = "shop"
project_name = "shop"
kedro_init_version = "1.7.0"
""",
    "src/shop/__init__.py": "",
    "src/shop/settings.py": """
from kedro_provenance.plugin import AtomicCatalog, ProvenanceHooks, ResumingSession

DATA_CATALOG_CLASS = AtomicCatalog
SESSION_CLASS = ResumingSession
HOOKS = (ProvenanceHooks(),)
""",
    "src/shop/prices.py": """
def rounded(prices):
    return prices.round(1)
""",
    "src/shop/cleaning.py": """
def clean(orders):
    return orders[orders.price > 0]
""",
    "src/shop/totals.py": """
from shop.prices import rounded


def total(orders, rate):
    return rounded(orders.groupby("day", as_index=False).price.sum() * rate)
""",
    "src/shop/pipeline_registry.py": """
from kedro.pipeline import Node, Pipeline

from shop.cleaning import clean
from shop.totals import total


def register_pipelines():
    nodes = [
        Node(clean, "orders", "cleaned", name="clean"),
        Node(total, ["cleaned", "params:rate"], "totals", name="total"),
    ]
    return {"__default__": Pipeline(nodes)}
""",
    "conf/base/parameters.yml": "rate: 1.2\ntitle: sales\n",
    "conf/local/credentials.yml": "db: {con: 'sqlite:///data/shop.db'}\n",
    "data/01_raw/orders.csv": "day,price\n1,2\n1,3\n2,5\n2,-1\n",
}
CATALOG = """
orders: {{type: pandas.CSVDataset, filepath: data/01_raw/orders.csv}}
cleaned: {cleaned}
totals: {{type: pandas.ParquetDataset, filepath: data/03_primary/totals.parquet, versioned: {versioned}}}
"""
TABLE = "{type: pandas.ParquetDataset, filepath: data/02_intermediate/cleaned.parquet"
KINDS = {  # of what stands between the two nodes, and whether the result keeps versions
    "versions": (
        "{type: pandas.ParquetDataset, filepath: data/02_intermediate/cleaned.parquet, versioned: true}",
        True,
    ),
    "files": ("{type: pandas.ParquetDataset, filepath: data/02_intermediate/cleaned.parquet}", False),
    "memory": ("{type: MemoryDataset}", True),
    "no entry": (None, True),
    "cached": ("{type: CachedDataset, dataset: {type: pandas.ParquetDataset, filepath: data/cleaned.parquet}}", True),
    "table": (
        "{type: pandas.SQLTableDataset, table_name: cleaned, credentials: db, save_args: {if_exists: replace}}",
        True,
    ),
}


def make_project(folder, kind="versions"):
    """The project in an empty folder."""
    cleaned, versioned = KINDS[kind]
    catalog = CATALOG.format(cleaned=cleaned, versioned=str(versioned).lower())
    if cleaned is None:
        catalog = "\n".join(line for line in catalog.splitlines() if not line.startswith("cleaned"))
    files = FILES | {"conf/base/catalog.yml": catalog}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip())
    return folder


def edit(folder, name, old, new):
    """Change a file of the project."""
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def repeated(folder, by, edits):
    """One session of this process after each edit of a file; by session, the names of the nodes that ran."""
    from kedro.pipeline import Node

    run, sessions = Node.run, []
    for each in edits:
        if each:
            edit(folder, *each)
        sessions.append([])
        Node.run = lambda node, inputs: sessions[-1].append(node.name) or run(node, inputs)
        by(folder, only_missing_outputs=True)
    return sessions


def report_run(answer, function, folder, *arguments, die_in=None, **named):
    """Run the project in this process; send the names of the nodes that ran, or the error."""
    from kedro.pipeline import Node

    ran, run = [], Node.run

    def noting(node, inputs):
        if node.name == die_in:
            os.kill(os.getpid(), signal.SIGKILL)
        ran.append(node.name)
        return run(node, inputs)

    Node.run = noting
    os.chdir(folder)
    try:
        returned = function(folder, *arguments, **named)
        answer.send(ran if returned is None else returned)
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}")


def ran(function, *arguments, **named):
    """Names of the nodes that a session runs in a process of its own, or its error; None if it was killed."""
    from forked import FORKED

    receiver, sender = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=report_run, args=(sender, function, *arguments), kwargs=named)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join(60)


def by_settings(folder, **arguments):
    """A session as `kedro run` makes it."""
    from kedro.framework.project import settings
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    with settings.SESSION_CLASS.create(folder) as session:
        session.run(**arguments)


def with_clock_set_back(folder, is_checked):
    """A session of a year ago, with or without the check of versions; the prices that are read after it."""
    import kedro.framework.session.session as sessions
    import pandas as pd

    from kedro_provenance import start

    now = sessions.generate_timestamp()
    sessions.generate_timestamp = lambda: f"{int(now[:4]) - 1}{now[4:]}"
    if not is_checked:
        start.require_past_versions = lambda run: None
    by_settings(folder)
    [*_, newest] = sorted(folder.glob("data/03_primary/totals.parquet/*/totals.parquet"))
    return pd.read_parquet(newest).price.tolist()


def in_processes(folder, **arguments):
    """A session as `kedro run --runner ParallelRunner` makes it."""
    from kedro.runner import ParallelRunner

    by_settings(folder, runner=ParallelRunner(2), **arguments)


def loaded(folder, said_by="kedro.io.data_catalog"):
    """What the catalog, or another logger, says that it loads and saves in a session with `--only-missing-outputs`."""
    import logging

    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)  # which sets levels of its own
    said, logger = [], logging.getLogger(said_by)
    logger.setLevel(logging.INFO)
    logger.addFilter(lambda record: said.append(record.getMessage()))
    by_settings(folder, only_missing_outputs=True)
    return said


def by_kedro(folder, runner=None, **arguments):
    """Kedro's own session, with a runner of a class of Kedro's."""
    import kedro.runner
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    with KedroSession.create(project_path=folder) as session:
        session.run(runner=runner and getattr(kedro.runner, runner)(), **arguments)


def by_notebook(folder, **arguments):
    """The session of a notebook after `%reload_kedro`."""
    from IPython.core.interactiveshell import InteractiveShell
    from kedro.ipython import reload_kedro

    shell = InteractiveShell.instance()
    reload_kedro(folder)
    shell.user_ns["session"].run(**arguments)


def by_airflow(folder, task_id):
    """A task of the DAG that `kedro airflow create` makes by the project's template; the other tasks are made alone."""
    import sys
    from types import ModuleType, SimpleNamespace

    from jinja2 import Template

    class Task:
        def __init__(self, name, work):
            self.name, self.work, self.after = name, work, []

        def __call__(self, **arguments):
            made[self.name] = lambda: self.work(**arguments)
            return self

        def __rshift__(self, other):
            other.after.append(self.name)

    made, tasks = {}, ModuleType("airflow.sdk")
    tasks.dag = lambda **settings: lambda function: function
    tasks.task = lambda task_id: lambda work: Task(task_id, work)
    sys.modules |= {"airflow": ModuleType("airflow"), "airflow.sdk": tasks}
    groups = [
        SimpleNamespace(name="clean", type="nodes", nodes=["clean"], dependencies=[]),
        SimpleNamespace(name="total", type="nodes", nodes=["total"], dependencies=["clean"]),
    ]
    names = {"package_name": "shop", "env": "local", "pipeline_name": "__default__", "project_path": folder}
    sys.path.insert(0, str(folder / "src"))  # where Airflow runs, the package is installed,
    os.chdir("/")  # and it runs anywhere
    exec(Template(DAG.read_text(encoding="utf-8")).render(node_objs=groups, **names), {})
    made[task_id]()


def commanded(folder, *commands):
    """What commands print as JSON, or as text."""
    import json

    from click.testing import CliRunner

    from kedro_provenance.commands import commands as group

    said = []
    for command in commands:
        result = CliRunner(catch_exceptions=False).invoke(group, ["provenance", *command.split()])
        lines = result.output.splitlines()
        said.append(json.loads(lines[-1]) if "--json" in command and result.exit_code == 0 else result.output)
    return said


def erase_and_die(folder, command, number):
    """A command that erases, in a process that is killed while the data with this number are half erased."""
    from kedro_provenance import archive

    left = [number]

    def die(removed):
        left[0] -= 1
        if not left[0]:
            hidden = removed.with_name(f".unfinished-kedro-{socket.gethostname()}-{os.getpid()}-x")
            hidden.mkdir()
            removed.rename(hidden / removed.name)
            os.kill(os.getpid(), signal.SIGKILL)
        remove(removed)

    remove, archive.remove_folder = archive.remove_folder, die
    commanded(folder, command)


def by_server(folder, *requests):
    """The server of `kedro server start`, and requests of runs one after the other."""
    import json

    import uvicorn
    from kedro.server.http_server import create_http_server

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_http_server(folder), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/run"
        for request in requests:
            body = json.dumps(request).encode()
            with urlopen(Request(url, body, {"Content-Type": "application/json"})) as response:
                outcome = json.load(response)
            assert outcome["status"] == "success", outcome
        server.should_exit = True
        thread.join(10)
