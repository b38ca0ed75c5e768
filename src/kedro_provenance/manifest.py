"""The record of a run: `run_manifest`."""

import platform
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from functools import cache, reduce
from importlib.metadata import distributions
from operator import getitem
from typing import Any

from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline

from codeprint.files import remembered_sha256
from kedro_provenance.datasets import local_path
from kedro_provenance.files.digests import digest
from kedro_provenance.files.storage import is_remote, states, storage_options
from kedro_provenance.parameters import private_fields
from kedro_provenance.plan import fields_read
from kedro_provenance.run import Run

MANIFEST = "run_manifest"


def save_manifest(run: Run, seconds: float) -> None:
    """Save the parameters, versions, code and packages of a successful run, if the catalog has an entry for them."""
    if not manifest_entry(run.catalog):
        return
    pipeline = Pipeline(run.seconds)  # nodes that ran: those whose outputs fit may have been left out
    manifest = {
        "run_id": run.params["run_id"],
        "environment": run.env,
        "pipelines": run.params["pipeline_names"] or ["__default__"],
        "nodes": {node.name: round(taken, 1) for node, taken in run.seconds.items()},
        "seconds": round(seconds, 1),
        "parameters": parameters_of(run.seconds, run.parameters, run.catalog),
        "mixed": run.mixed,
        "loaded": describe_entries(run.catalog, pipeline.inputs()),
        "saved": describe_entries(run.catalog, pipeline.all_outputs()),
        "reports": {
            name: run.catalog.load(name)
            for name in sorted(pipeline.all_outputs())
            if (getattr(run.catalog.get(name), "metadata", None) or {}).get(MANIFEST)
        },
        "git_revision": run.revision,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": installed_packages(),
    }
    run.catalog.save(MANIFEST, manifest)


def manifest_entry(catalog: DataCatalog) -> set[str]:
    """Return the name of the entry for manifests, if the catalog has it; a pattern that fits any name is for others."""
    return {MANIFEST} & {*catalog.keys()}


def parameters_of(nodes: Iterable[Node], parameters: dict[str, Any], catalog: DataCatalog) -> dict[str, Any]:
    """Return those of the nested parameters that nodes read, without private fields."""
    paths, private = set[str](), set[tuple[Any, ...]]()
    for node in nodes:
        for name in filter(is_parameter, node.inputs):
            path, fields = name.removeprefix("params:"), fields_read(node, name)
            private |= {(*path.split("."), *keys) for keys in private_fields(catalog.load(name))}
            paths.update([path] if fields is None else [f"{path}.{field}" for field in fields])
    parameters = deepcopy(parameters)
    for *keys, last in private:
        with suppress(LookupError, TypeError):  # it is not given
            del reduce(getitem, keys, parameters)[last]
    if "parameters" in paths:
        return parameters
    read: dict[str, Any] = {}
    for path in sorted(paths, reverse=True):  # the whole of a block after its parts
        *parents, last = path.split(".")
        block, copy = parameters, read
        for parent in parents:
            block, copy = block.get(parent, {}), copy.setdefault(parent, {})
        if last in block:
            copy[last] = block[last]
    return read


def describe_entries(catalog: DataCatalog, names: set[str]) -> dict[str, str]:
    """Return the version in use of each stored entry or, without versions, a digest or an object's state."""
    described = {}
    for name in sorted(names):
        dataset, entry = catalog.get(name), catalog.config_resolver.resolve_pattern(name)
        file = local_path(dataset)
        if isinstance(dataset, AbstractVersionedDataset) and (loaded := dataset.resolve_load_version()):
            described[name] = f"version {loaded}"
        elif file is not None and file.is_file():
            described[name] = f"sha256 {remembered_sha256(file)}"
        elif isinstance(dataset, AbstractVersionedDataset) and is_remote(entry.get("filepath")):
            described[name] = f"state {digest(states(entry['filepath'], storage_options(entry)))}"
    return described


@cache
def installed_packages() -> dict[str, str]:
    """Return the versions of all installed packages by their names; it takes a third of a second once per process."""
    return dict(sorted((each.name, each.version) for each in distributions()))
