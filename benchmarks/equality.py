"""Show that two revisions store the same numbers: run both, and compare all that they store, to the last bit.

    python benchmarks/equality.py --before bf995f2
    python benchmarks/equality.py --before bf995f2 --after HEAD --keep ../equality

Each side is a project folder of its own with fabricated data, in which one thread makes the `RUNS` with the parameters
of conf/test and two variants more. Artefacts of bf995f2 and earlier are brought into the layout of later ones, see
`in_new_layout`. Then all is compared part by part: columns, tensors, values of JSON, or text; versions of an entry in
the order in which they were made. What is not compared is listed with its reason (`LEFT_OUT`, `NEW`); anything else
that one side alone has is a difference. The exit code is 0 if there is none, else 1. It takes about five minutes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from results import markdown
from running import ROOT
from safetensors.torch import load_file
from tqdm import tqdm

Parts = dict[str, Any]
"""Content of a file: [type, values] by the name of a column or tensor, or values by key."""
Stored = dict[str, list[Parts]]
"""All versions of each entry, oldest first."""

FILES = ("src", "conf", "tests", "pyproject.toml", ".telemetry")  # of a project folder
VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")
UNITS = {".parquet": "columns", ".safetensors": "tensors", ".json": "values"}
RUNS = (  # of `kedro run --env test`
    [],
    ["--pipelines", "recommendation"],
    ["--pipelines", "recommendation", "--params", "recommendation.variant=reclora_user"],
    ["--pipelines", "lens_zoo"],
    ["--pipelines", "export"],
    ["--params", "few_shot.lens_states=cross_fitted,few_shot.folds=2"],
)

# Two variants that read other states and spell every renamed parameter: what each, its adapter and its training change.
FEW_GATES = {"composition": "product_of_sums", "gate_scope": "shared", "last_layers": None, "top_k": 2}
OFTEN = {"schedule": "cosine", "rows_per_validation": 16}
VARIANTS: dict[str, tuple[Parts, Parts, Parts]] = {
    "reclora_user": ({"gate_input": "user"}, {"lens_in_score": "prior"}, {}),
    "reclora_fields": (
        {"gate_input": "fields", "history": "recent"},
        FEW_GATES | {"lens_in_score": "none", "gate_norm": "layer"},
        OFTEN | {"batch_size": 4, "warmup_ratio": 0.2, "max_grad_norm": 0.5, "swa_ratio": 0.25},
    ),
}
OLD_VARIANTS: dict[str, tuple[Parts, Parts, Parts]] = {  # the same in the spelling of bf995f2
    "reclora_user": ({}, {"gate_input": "user", "lens_prior": True, "lens_average": False}, {}),
    "reclora_fields": (
        {"history": "recent"},
        FEW_GATES | {"gate_input": "fields", "lens_average": False, "state_norm": "layer", "routing": "top_k"},
        OFTEN | {"rows_per_step": 4, "warmup_share": 0.2, "max_gradient_norm": 0.5, "averaged_share": 0.25},
    ),
}
EXPORT = {"variant": "reclora_user", "users": None, "most_active": 3}

# By entry, the former entry that it is, and the one that it was a part of.
MOVED = {
    "log/samples.parquet": "samples.parquet",
    "log/sequences.safetensors": "sequences.safetensors",
    "lens/lens.json": "lens_config.json",
    "lens/lens.safetensors": "lens_weights.safetensors",
}
SPLIT = {
    "log/items.parquet": "items.parquet",
    "log/users.parquet": "users.parquet",
    "few_shot_states.safetensors": "lens_states.safetensors",
    "rating_statistics.parquet": "lens_states.safetensors",
    "*/gate_inputs.safetensors": "lens_states.safetensors",
}
REMADE = {*MOVED.values(), "recommendation_report.json"}
# Columns of rating_statistics, in the order of what was the lens state `feedback`.
STATISTICS = (
    "item_like_rate", "item_mean_rating", "item_recent_like_rate", "item_ratings", "user_like_rate",
    "user_recent_like_rate", "user_ratings", "leniency", "recent_leniency", "leniency_to_such_items",
    "rating_leniency_to_such_items",
)  # fmt: skip
# Texts of figures and the report that were reworded.
REWORDED = {"Log loss (nats a row)": "Log loss (nats per row)"}
# Patterns of entry:part that are not compared, and why.
LEFT_OUT = {
    "run_manifest.json:*": "names the run's times, versions and packages",
    ".run.lock:*": "empty: held by a run",
    "*:seconds": "a measured time",
    "*:rows_per_second": "a measured time",
    "user_adapters/README.md:*": "a text for people, which was reworded",
    "recommendations_preview.json:*": "first rows of recommendations.parquet, no longer kept",
    "metrics.json:auc*": "rounded otherwise, and its interval was of DeLong's method; scores.parquet is compared",
    "comparisons.json:*": "made of these AUCs, by another test",
    "auc_figure.json:*": "shows these AUCs",
    "evaluation_report.html:*": "shows these AUCs",
}
# Patterns of entry:part that `--before` need not have, and why.
NEW = {
    "candidate_*:*": "was in memory alone; recommendations.parquet, made of it, is compared",
    "shortlist.parquet:title": "joined from items.parquet",
    "*/adapter/adapter_config.json:last_layers": "layers_to_transform, made of it, is compared",
    "scores.parquet:user": "joined from the log's samples",
    "metrics.json:*": "users, gauc and confidence are made of scores.parquet and a parameter",
    "segments.json:*": "made of scores.parquet and the log",
}


def in_new_layout(old: Stored) -> Stored:
    """Artefacts of bf995f2 as later revisions name and lay them out; those of later ones as they are."""
    if old.keys().isdisjoint(MOVED.values()):
        return old
    new: Stored = defaultdict(list)
    new |= {entry: versions for entry, versions in old.items() if entry not in REMADE}
    new |= {entry: old[former] for entry, former in MOVED.items()}
    new |= {f"log/{table}.parquet": old[f"{table}.parquet"] for table in ("items", "users")}
    new["lens/lens.safetensors"] = [
        {name.replace("of_behaviour", "of_event"): tensor for name, tensor in weights.items()}
        for weights in old["lens_weights.safetensors"]
    ]
    variants = [entry.split("/")[0] for entry in old if entry.endswith("/adapter/adapter_config.json")]
    for variant in variants:
        configs = old[f"{variant}/adapter/adapter_config.json"]
        new[f"{variant}/adapter/adapter_config.json"] = [new_adapter_config(config) for config in configs]
    # Cross-fitted states, and scores by them, stood in place of the lens's own of the few-shot rows. The first run,
    # whose lens is the same, has its own.
    few_shot = [place for place, use in enumerate(old["prompt_rows.parquet"][0]["use"][1]) if use == "few_shot"]
    for entry in ("lens_states.safetensors", "lens_scores.parquet"):
        new[entry] = [with_rows_of(old[entry][0], version, few_shot) for version in old[entry]]
    for states in new["lens_states.safetensors"]:
        del states["feedback"]
    for run, states in enumerate(old["lens_states.safetensors"]):
        chosen = {name: [kind, [values[place] for place in few_shot]] for name, (kind, values) in states.items()}
        del chosen["feedback"]
        new["few_shot_states.safetensors"].append(chosen)
        kind, rows = states["feedback"]
        columns = {name: [kind, [row[place] for row in rows]] for place, name in enumerate(STATISTICS)}
        new["rating_statistics.parquet"].append({"row": old["prompt_rows.parquet"][run]["row"], **columns})
        readable = {**states, "rating_statistics": states["feedback"]}
        for variant in variants:
            name = new[f"{variant}/adapter/adapter_config.json"][run]["gate_input"]
            read = {"row": states["row"], "lens_logit": states["logit"], name: readable[name]}
            new[f"{variant}/gate_inputs.safetensors"].append(read)
    for counts, report in zip(old["shortlist_report.json"], old["recommendation_report.json"], strict=True):
        if report | {"seconds": None} != counts | {"seconds": None, "pairs_scored": report["pairs_scored"]}:
            sys.exit("recommendation_report, before, does not repeat the counts of shortlist_report.")
        new["recommendation_report.json"].append({"pairs_scored": report["pairs_scored"]})
    text = json.dumps(new)
    for was, now in REWORDED.items():
        text = text.replace(was, now)
    return json.loads(text)


def with_rows_of(source: Parts, target: Parts, places: list[int]) -> Parts:
    """Columns or tensors whose rows at some places are those of another table."""
    chosen = set(places)
    return {
        name: [kind, [source[name][1][place] if place in chosen else row for place, row in enumerate(values)]]
        for name, (kind, values) in target.items()
    }


def new_adapter_config(old: Parts) -> Parts:
    """An adapter's configuration in the new spelling."""
    new = dict(old)
    prior, average, routing = (new.pop(name) for name in ("lens_prior", "lens_average", "routing"))
    if routing != ("soft" if old["top_k"] is None else "top_k"):
        sys.exit(f"routing is {routing} although top_k is {old['top_k']}")
    new["lens_in_score"] = "prior" if prior else "average" if average else "none"
    new["gate_dim"], new["gate_norm"] = new.pop("lens_dim"), new.pop("state_norm")
    return new | {"gate_input": {"feedback": "rating_statistics"}.get(old["gate_input"], old["gate_input"])}


def make_project(revision: str | None, folder: Path) -> Path:
    """A project folder with a revision's files, or the working tree's, with fabricated data and more parameters."""
    folder.mkdir(parents=True)
    pack = ["git", "archive", revision] if revision else ["tar", "-c", "--exclude=__pycache__", "--exclude=conf/local"]
    archive = subprocess.run([*pack, *FILES], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=folder, check=True, input=archive)
    (folder / "conf/local").mkdir(exist_ok=True)
    variants = yaml.safe_load((folder / "conf/base/parameters_finetuning.yml").read_text())["finetuning"]["variants"]
    base, settings = variants["reclora"], folder / "conf/test/parameters.yml"
    extra = OLD_VARIANTS if "rows_per_step" in base["training"] else VARIANTS
    more = {
        name: base | variant | {"adapter": base["adapter"] | adapter, "training": base["training"] | training}
        for name, (variant, adapter, training) in extra.items()
    }
    parameters = yaml.safe_load(settings.read_text()) | {"finetuning": {"variants": more}, "export": EXPORT}
    parameters["history"]["short"] = {"recent": {"kind": "recent", "k": 5}}
    settings.write_text(yaml.safe_dump(parameters))
    python(folder, "tests/fabricate.py")
    return folder


def python(project: Path, *arguments: str) -> str:
    """Run this interpreter in a project, with the project's own package; what it prints."""
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed in {project}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def stored(project: Path) -> Stored:
    """All that runs have stored in a project, by entry without its layer, such as lens/lens.json."""
    entries: Stored = defaultdict(list)
    for file in sorted(path for path in (project / "data").rglob("*") if path.is_file()):
        layer, *parts = file.relative_to(project / "data").parts
        if layer != "01_raw":
            at = next((place for place, part in enumerate(parts) if VERSION.fullmatch(part)), len(parts))
            entries["/".join(parts[:at] + parts[at + 2 :]) or layer].append(read(file))
    return entries


def read(file: Path) -> Parts:
    """Content of a file; records become columns."""
    if file.suffix == ".parquet":
        return {column.name: [str(column.dtype).lower(), column.to_list()] for column in pl.read_parquet(file)}
    if file.suffix == ".safetensors":
        tensors = load_file(file).items()
        return {name: [str(tensor.dtype).removeprefix("torch."), tensor.tolist()] for name, tensor in tensors}
    if file.suffix != ".json":
        return {"text": file.read_text(encoding="utf-8")}
    content = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(content, dict) or not content:
        return content or {"content": content}
    keys = dict.fromkeys(key for record in content for key in record)
    return {key: [record.get(key, "absent") for record in content] for key in keys}


def compare(entry: str, before: list[Parts], after: list[Parts]) -> tuple[int, list[str], dict[str, str]]:
    """How many parts of an entry were compared, what differs, and the reasons why other parts were not compared."""
    compared, differences, aside = 0, [], {}
    for version, (old, new) in enumerate(zip_longest(before, after, fillvalue={}), start=1):
        for part in old | new:
            reasons = LEFT_OUT if part in old else LEFT_OUT | NEW
            reason = next((why for pattern, why in reasons.items() if fnmatch(f"{entry}:{part}", pattern)), None)
            if reason:
                aside[part] = reason
            elif part not in old or part not in new:
                differences.append(f"{part}, version {version}, is there {'before' if part in old else 'after'} alone")
            else:
                compared += 1
                exact = [json.dumps(parts[part], sort_keys=True, default=str) for parts in (old, new)]
                if exact[0] != exact[1]:
                    place = next((i for i, pair in enumerate(zip(*exact, strict=False)) if len({*pair}) > 1), 0)
                    was, now = (text[max(0, place - 20) : place + 40] for text in exact)
                    differences.append(f"{part}, version {version}: ...{was}... is now ...{now}...")
        orders = [part for part in old if part in new], [part for part in new if part in old]
        if entry.endswith(".parquet") and orders[0] != orders[1]:
            differences.append(f"version {version} has its columns in another order")
    return compared, differences, aside


def main() -> None:
    """Run both sides, compare what they stored, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="revision before the renovation")
    parser.add_argument("--after", help="revision after it; by default the working tree")
    parser.add_argument("--keep", type=Path, help="new folder in which both projects stay; by default they are removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary) / "equality").resolve()
        projects = [make_project(getattr(arguments, side), folder / side) for side in ("before", "after")]
        raw = [{path.name: path.read_bytes() for path in p.glob("data/01_raw/**/*.*")} for p in projects]
        if raw[0] != raw[1]:
            sys.exit("The fabricated raw data differ: the revisions have different tests/fabricate.py.")
        for project in projects:
            package = python(project, "-c", "import reclora_kedro; print(reclora_kedro.__file__)").strip()
            if not Path(package).is_relative_to(project):
                sys.exit(f"{project} would run {package}, not its own package.")
            for run in tqdm(RUNS, desc=project.name):
                python(project, "-m", "kedro", "run", "--env", "test", *run)
        found = [stored(project) for project in projects]
    before, after = map(in_new_layout, found)
    table, asides, faults, artefacts = [], [], [], 0
    for entry in sorted(before | after):
        versions = max(len(before.get(entry, [])), len(after.get(entry, [])))
        compared, differences, aside = compare(entry, before.get(entry, []), after.get(entry, []))
        faults += [f"{entry}: {difference}" for difference in differences]
        if compared or differences:
            origin = next((old for new, old in (MOVED | SPLIT).items() if fnmatch(entry, new)), "")
            artefacts += versions
            table.append(
                {
                    "entry": entry,
                    "formerly (in)": "" if entry in found[0] else origin,
                    "versions": versions,
                    "compared": f"{compared} {UNITS.get(Path(entry).suffix, 'texts')}",
                    "equal": "NO" if differences else "yes",
                }
            )
        for reason in dict.fromkeys(aside.values()):
            parts = [part for part, why in aside.items() if why == reason]
            record = {"entry": entry, "not compared": ", ".join(parts) if compared else "all of it", "reason": reason}
            asides.append(record)
    reworded = [f"{was!r} is now {now!r}" for was, now in REWORDED.items()]
    print(markdown(table), "", markdown(asides), "", *reworded, "", *faults, sep="\n")
    print(f"{artefacts} artefacts compared, {f'{len(faults)} differences' if faults else 'all equal'}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
