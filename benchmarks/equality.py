"""Show that two revisions store the same numbers: run both, and compare all that they store, to the last bit.

    python benchmarks/equality.py --before 58d873b
    python benchmarks/equality.py --before 58d873b --only flow implicit --keep ../equality

Each side is a project folder per scenario, with fabricated data, in which one thread runs pipelines with the
parameters of conf/test and a few more. Then all that is stored is compared part by part: columns, tensors and values of
JSON, under the entry's name or wherever the same content lies. What is not compared is listed with its reason
(`LEFT_OUT`). The exit code is 0 if nothing differs, else 1. It takes about ten minutes; with `--keep`, the former side
is run once.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import yaml
from results import markdown
from running import ROOT
from safetensors.numpy import load_file

from kedro_provenance.parameters import soft_merge

Part = tuple[str, str]
"""Name of an entry, and of a column, tensor or value in it."""

FILES = ("src", "conf", "tests", "pyproject.toml", ".telemetry")  # of a project folder
VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")

LEFT_OUT = {  # patterns of entry:part, and why
    "run_manifest.json:*": "names the run's times, versions and packages",
    "*:seconds": "a measured time",
    "*_seconds": "a measured time",
    "*:rows_per_second": "a measured time",
    "*:ms_per_row": "a measured time",
    "*:digest": "a digest of code and parameters",
    "*:revision": "the revision",
    "*.html:*": "a page made of what is compared",
    "*.md:*": "a text for people",
}


class Scenario(NamedTuple):
    """Runs in one project.

    Attributes:
        runs: arguments of `kedro run --env test`, one run after the other.
        parameters: changes of the parameters of conf/test.
        catalog: changes of its catalog.
    """

    runs: tuple[tuple[str, ...], ...]
    parameters: Mapping[str, Any] = MappingProxyType({})
    catalog: Mapping[str, Any] = MappingProxyType({})


VARIANTS = {  # two more, which read other states and set what the others leave as it is
    "reclora_user": {"like": "reclora", "gate_input": "user", "blend": "average"},
    "reclora_fields": {
        "like": "reclora",
        "gate_input": "fields",
        "adapter": {
            "composition": "product_of_sums",
            "gate_scope": "shared",
            "gate_norm": "layer",
            "last_layers": None,
            "top_k": 2,
        },
        "training": {
            "rows_per_validation": 16,
            "batch_size": 4,
        },
    },
}
LIKES = {
    "ingestion": {"interactions": {"rating": None}},
    "history": {"negatives": {"kind": "matched", "per_positive": 1}, "min_history": 3},
    "lens": {"item_text": True, "item_id_dropout": 0.2},
    "prompt": {"template": "purchases"},
}
SHOWN = {
    "ingestion": {
        "interactions": {
            "item_id": "impressions",
            "rating": None,
            "impressions": {"separator": " ", "clicked": "-1", "not_clicked": "-0"},
            "click_history": {"column": "history", "separator": " "},
        },
        "users": None,
    },
    "history": {"min_history": 2, "prompt_rows": {"unit": "likes"}},
}
SCENARIOS = {
    "flow": Scenario(
        (
            (),
            ("--pipelines", "recommendation"),
            ("--pipelines", "recommendation", "--params", "recommendation.variant=null"),
            ("--pipelines", "recommendation", "--params", "recommendation.variant=reclora_user"),
            ("--pipelines", "ranking"),
            ("--pipelines", "export", "--params", "export.variant=reclora_user,export.users=null,export.most_active=3"),
        ),
        {
            "finetuning": {"variants": VARIANTS},
            "history": {"short": {"retrieved": {"kind": "retrieved", "k": 5}}},
        },
    ),
    "study": Scenario((("study",),), {"scoring": {"permuted_rows": 20}}),
    "implicit": Scenario(((), ("--pipelines", "recommendation,ranking")), LIKES),
    "impressions": Scenario(
        (("--pipelines", "ingestion,history,lens"),),
        SHOWN,
        {
            "raw_interactions": {
                "type": "polars.CSVDataset",
                "filepath": "data/01_raw/fabricated/impressions.tsv",
                "load_args": {"separator": "\t", "schema_overrides": {"history": "${polars_type:String}"}},
            },
            "raw_items": {"load_args": {"schema_overrides": {"movie_id": "${polars_type:String}"}}},
        },
    ),
    "parts": Scenario((("--pipelines", "ingestion,history,lens"),), {"engine": {"rows_per_part": 300}}),
    "implicit_parts": Scenario((("--pipelines", "ingestion,history"),), LIKES | {"engine": {"rows_per_part": 300}}),
    "ray": Scenario(((),), {"engine": {"kind": "ray", "rows_per_shard": 64}, "lens": {"batch_parts": 4}}),
}


def main() -> None:
    """Run both sides of each scenario, compare what they stored, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="the former revision")
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS), help="scenarios to run")
    parser.add_argument(
        "--keep", type=Path, help="folder in which both sides stay; a kept former side is not run again"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        table, faults, asides = [], list[str](), dict[str, str]()
        for name in arguments.only:
            before = run_side(name, folder / "before" / name, arguments.before)
            after = run_side(name, folder / "after" / name, None)
            compared, different, aside = compare(stored(before), stored(after))
            table.append({"scenario": name, "parts compared": compared, "different": len(different)})
            faults += [f"{name}: {fault}" for fault in different]
            asides |= aside
    print(markdown(table), "", *(f"Not compared: {part} ({why})" for part, why in sorted(asides.items())), "", sep="\n")
    print(*faults, f"{len(faults)} differences" if faults else "All equal.", sep="\n")
    sys.exit(bool(faults))


def run_side(name: str, folder: Path, revision: str | None) -> Path:
    """A project with a revision's files, or the working tree's, in which a scenario was run."""
    finished = folder / "finished"
    if revision and finished.exists():
        return folder
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir(parents=True)
    pack = ["git", "archive", revision] if revision else ["tar", "-c", "--exclude=__pycache__", "--exclude=conf/local"]
    archive = subprocess.run([*pack, *FILES], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=folder, check=True, input=archive)
    (folder / "conf/local").mkdir(exist_ok=True)
    python(folder, *map(str, folder.glob("tests/**/fabricate.py")))
    write_impressions(folder / "data/01_raw/fabricated")
    scenario = SCENARIOS[name]
    for kind, changes in (("parameters", scenario.parameters), ("catalog", scenario.catalog)):
        file = folder / f"conf/test/{kind}.yml"
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        file.write_text(yaml.safe_dump(soft_merge(content, changes)), encoding="utf-8")
    for run in scenario.runs:
        command, *options = run if run and not run[0].startswith("--") else ("run", *run)
        print(f"{folder.parent.name} {name}: kedro {command} {' '.join(options)}", file=sys.stderr, flush=True)
        python(folder, "-m", "kedro", command, "--env", "test", *options)
    finished.touch()
    return folder


def python(project: Path, *arguments: str) -> None:
    """Run this interpreter in a project, with the project's own package."""
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed in {project}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")


def write_impressions(folder: Path) -> None:
    """A log of impressions beside the fabricated one, in the form of MIND's."""
    random = np.random.default_rng(0)
    rows = [
        {
            "impression_id": number,
            "user_id": f"U{random.integers(40)}",
            "timestamp": 880_000_000 + int(random.integers(2_000_000)) // 50 * 50,
            "history": " ".join(map(str, random.integers(1, 41, int(random.integers(0, 4))))),
            "impressions": " ".join(
                f"{item}-{int(random.random() < 0.4)}" for item in random.choice(np.arange(1, 41), 5, replace=False)
            ),
        }
        for number in range(400)
    ]
    pl.DataFrame(rows).write_csv(folder / "impressions.tsv", separator="\t")


def stored(project: Path) -> dict[Part, list[str]]:
    """All that runs have stored in layers after the raw one: by part, the content of its versions, oldest first."""
    parts: dict[Part, list[str]] = {}
    files = (path for path in (project / "data").rglob("*") if path.is_file())
    for file in sorted(path for path in files if path.name != "provenance.json"):  # digests of code, and versions
        names = file.relative_to(project / "data").parts
        layer = next((place for place, name in enumerate(names) if re.match(r"0[3-8]_", name)), None)
        if layer is None:
            continue
        names = names[layer + 1 :]
        at = next((place for place, name in enumerate(names) if VERSION.fullmatch(name)), len(names))
        entry = "/".join(names[:at] + names[at + 2 :])
        for name, content in read(file):
            parts.setdefault((entry, name), []).append(content)
    return parts


def read(file: Path) -> Iterator[tuple[str, str]]:
    """Names and contents of the parts of a file; records become columns."""
    if file.suffix in (".parquet", ".arrow"):
        for column in (pl.read_parquet if file.suffix == ".parquet" else pl.read_ipc)(file):
            yield column.name, json.dumps(column.to_list(), default=str)
    elif file.suffix == ".safetensors":
        for name, tensor in load_file(file).items():
            yield name, json.dumps(tensor.tolist())
    elif file.suffix == ".json":
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, list) and content and isinstance(content[0], dict):
            keys = dict.fromkeys(key for record in content for key in record)
            content = {key: [record.get(key) for record in content] for key in keys}
        for name, value in (content if isinstance(content, dict) else {"content": content}).items():
            yield name, json.dumps(value, sort_keys=True)
    else:
        yield "text", file.read_text(encoding="utf-8", errors="replace")


def compare(before: dict[Part, list[str]], after: dict[Part, list[str]]) -> tuple[int, list[str], dict[str, str]]:
    """How many parts were compared, what differs, and the reasons why other parts were not compared."""
    compared, different, aside = 0, [], {}
    everywhere = {content for contents in after.values() for content in contents}
    for (entry, part), contents in before.items():
        name = f"{entry}:{part}"
        if reason := next((why for pattern, why in LEFT_OUT.items() if fnmatch(name, pattern)), None):
            aside[name] = reason
            continue
        compared += 1
        now = after.get((entry, part))
        if contents == now or everywhere.issuperset(contents):
            continue
        if now is None:
            different.append(f"{name} is no longer stored, nor is its content elsewhere")
        else:
            was, new = next((pair for pair in zip(contents, now, strict=False) if pair[0] != pair[1]), ("", ""))
            place = next((i for i, pair in enumerate(zip(was, new, strict=False)) if pair[0] != pair[1]), 0)
            around = slice(max(0, place - 30), place + 50)
            versions = f", {len(contents)} versions are now {len(now)}" if len(contents) != len(now) else ""
            different.append(f"{name}{versions}: ...{was[around]}... is now ...{new[around]}...")
    return compared, different, aside


if __name__ == "__main__":
    main()
