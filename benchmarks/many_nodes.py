"""CPU seconds of a run with nothing to do, in a project of many nodes, beside Kedro's own.

    python benchmarks/many_nodes.py

Each node reads two tables and a parameter, runs a function of its own with a helper, and leaves a version. Each run is
a process of its own with `--only-missing-outputs`, in turns with the plug-in and without.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

FACTS = """
[tool.kedro]
package_name = "many"
project_name = "many"
kedro_init_version = "1.7.0"
"""
SETTINGS = """
from kedro_provenance.plugin import AtomicCatalog, ProvenanceHooks, ResumingSession

DATA_CATALOG_CLASS = AtomicCatalog
SESSION_CLASS = ResumingSession
HOOKS = (ProvenanceHooks(),)
"""
REGISTRY = """
from kedro.pipeline import Node, Pipeline

from many import nodes


def register_pipelines():
    def inputs(number):
        return [f"table_{max(number - step, 0)}" for step in (1, 2)] + [f"params:share_{number % 10}"]

    made = [
        Node(getattr(nodes, f"make_{number}"), inputs(number), f"table_{number}", name=f"make_{number}")
        for number in range(1, NODES + 1)
    ]
    return {"__default__": Pipeline(made)}
"""
HELPERS = """
def mixed(one, other, share):
    return {"value": share * one["value"] + (1 - share) * other["value"]}
"""
NODE = """

def make_{number}(one, other, share):
    return mixed(one, other, share) | {{"number": {number}}}
"""
CATALOG = """
table_0: {type: json.JSONDataset, filepath: data/table_0.json}
"table_{number}": {type: json.JSONDataset, filepath: "data/table_{number}.json", versioned: true}
"""


def write_project(folder: Path, nodes: int) -> None:
    functions = "".join(NODE.format(number=number) for number in range(1, nodes + 1))
    files = {
        "pyproject.toml": FACTS,
        "src/many/__init__.py": "",
        "src/many/settings.py": "",
        "src/many/helpers.py": HELPERS,
        "src/many/nodes.py": f"from many.helpers import mixed\n{functions}",
        "src/many/pipeline_registry.py": REGISTRY.replace("NODES", str(nodes)),
        "conf/base/catalog.yml": CATALOG,
        "conf/base/parameters.yml": "".join(f"share_{number}: 0.{number}\n" for number in range(10)),
        "conf/local/.gitkeep": "",
        "data/table_0.json": '{"value": 1.0}',
    }
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def cpu_seconds(folder: Path, *options: str) -> float:
    """Return the CPU seconds of `kedro run` in a process of its own."""
    before = getrusage(RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "kedro", "run", *options]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    print("| | CPU s, least of", arguments.repeats, "| median |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"Kedro's own": Path(scratch, "plain"), "with the plug-in": Path(scratch, "plugin")}
        seconds: dict[str, list[float]] = {name: [] for name in folders}
        for name, folder in folders.items():
            write_project(folder, arguments.nodes)
            (folder / "src/many/settings.py").write_text(SETTINGS if "plug-in" in name else "")
            cpu_seconds(folder)
        for _ in range(arguments.repeats):  # in turns, so that what else the machine does hits both
            for name, folder in folders.items():
                seconds[name].append(cpu_seconds(folder, "--only-missing-outputs"))
    for name, measured in seconds.items():
        print(f"| {name} | {min(measured):.2f} | {sorted(measured)[len(measured) // 2]:.2f} |")


if __name__ == "__main__":
    main()
