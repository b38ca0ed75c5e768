"""Results traced both ways through their records, and past runs made again by what these say.

A run is made again with its parameters, with its inputs by content, and only by the code that it had.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from kedro.io.core import is_parameter
from kedro.pipeline import Node

from kedro_provenance.archive import Archive, ArchivedVersion
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import is_in_memory, is_versioned, local_path, unversioned_path
from kedro_provenance.failures import RunRefusedError, refuse_faults
from kedro_provenance.parameters import private_fields, soft_merge
from kedro_provenance.plan import differences, present_content, recipe_of
from kedro_provenance.project import all_pipelines
from kedro_provenance.run import Run
from kedro_provenance.stores import Store


def known_entries(catalog: AtomicCatalog) -> list[str]:
    """Return the entries of the catalog and those of all pipelines, which patterns may make."""
    datasets = set().union(*(pipeline.datasets() for pipeline in all_pipelines().values()))
    return sorted(name for name in {*catalog.keys(), *datasets} if not is_parameter(name))


def require_run(run_id: str, existing: Collection[str]) -> None:
    """Raise RunRefusedError for a run of which no result is among the existing ones."""
    if run_id not in existing:
        newest = ", ".join(sorted(existing)[-5:]) or "none"
        raise RunRefusedError(f"There is no result of a run {run_id}. The newest runs with results are: {newest}.")


def choose(named: str, folder: Path, version: str | None, catalog: AtomicCatalog) -> tuple[str, str | None]:
    """Return the entry with a name or a file, and its version, which is pinned; raise RunRefusedError without one."""
    entry, path, names = named, (folder / named).resolve(), known_entries(catalog)
    if named not in names:
        places = {name: place.resolve() for name in names if (place := local_path(catalog.get(name)))}
        holding = [name for name, place in places.items() if path.is_relative_to(place)]
        if not (path.exists() and holding):
            raise RunRefusedError(f"{named} is neither an entry of the catalog nor a file of one.")
        entry = max(holding, key=lambda name: len(places[name].parts))
        if is_versioned(catalog.get(entry)) and path != places[entry]:
            version = version or path.relative_to(places[entry]).parts[0]
    if version:
        catalog.pin({entry: version})
    return entry, version


def made_from(entry: str, catalog: AtomicCatalog) -> Iterator[dict[str, Any]]:
    """Yield all results that any state of an entry went into, each with whether that was its data of now."""
    content = present_content(entry, catalog)
    for each in stored_results(catalog):
        if states := {one.content for one in each.lineage if one.entry == entry}:
            node = each.stored and each.stored.ancestor(each.entry).node
            yield {"entry": each.entry, "version": each.version, "node": node, "is_of_these": content in states}


def stored_results(catalog: AtomicCatalog, stores: Sequence[Store] = ()) -> Iterator[ArchivedVersion]:
    """Yield all results that a record describes: each version, and what has none as it is now."""
    yield from (each for each in Archive(catalog, stores).versions() if each.stored)
    for name in known_entries(catalog):
        if not is_versioned(dataset := catalog.get(name)) and (stored := catalog.stored(name)):
            yield ArchivedVersion(name, "", str(unversioned_path(dataset) or ""), {}, stored)


@dataclass(frozen=True)
class Repetition:
    """What a session needs to make the results of a past run again, and what these were."""

    nodes: list[str]
    parameters: dict[str, Any]  # nested, in place of the present ones
    versions: dict[str, str]  # to load, by entry
    contents: dict[str, str]  # of the results, by entry


def repetition_of(past: str, run: Run) -> Repetition:
    """Return how to make the results of a past run again; raise RunRefusedError for what differs and cannot be had."""
    results = [(each.entry, each.stored) for each in stored_results(run.catalog) if each.stored]
    made = {name: stored for name, stored in results if stored.run == past and stored.recipe}
    require_run(past, {stored.run for _, stored in results if stored.run})
    recipes = {stored.recipe.node: stored.recipe for stored in made.values() if stored.recipe}
    nodes = {node.name: node for pipeline in all_pipelines().values() for node in pipeline.nodes}
    read = {each for recipe in recipes.values() for each in recipe.inputs.items() if each[0] not in made}
    versions = {name: stored.version for name, stored in results if stored.version and (name, stored.content) in read}
    run.catalog.pin(versions)
    parameters, faults = dict[str, Any](), list[str]()
    for name, recipe in recipes.items():
        if name not in nodes:
            faults.append(f"{name} is not a node any more")
            continue
        now = recipe_of(nodes[name], run.catalog, leave_out=made)
        faults += [f"{name}: {each}" for each in differences(recipe, replace(now, parameters=recipe.parameters))]
        for path in (path for path, value in recipe.parameters.items() if now.parameters.get(path) != value):
            if path != "parameters" and any(private_fields(run.catalog.load(f"params:{path}"))):
                faults.append(f"{name}: {path} was another one, of which private values are in no record")
            parameters = soft_merge(parameters, nested(path, recipe.parameters[path]))
    revisions = sorted({stored.revision for stored in made.values() if stored.revision})
    advice = [f"Its code is that of git revision {each}: try there, in `git worktree add`." for each in revisions]
    refuse_faults(f"The run {past} cannot be made again here.", faults, *advice)
    contents = {name: stored.content for name, stored in made.items()}
    return Repetition(with_makers([nodes[name] for name in recipes], run), parameters, versions, contents)


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return the parameters that have a value at a dotted path; ``parameters`` is all of them.

    Examples:
        >>> nested("model.options", {"depth": 4})
        {'model': {'options': {'depth': 4}}}
    """
    if path == "parameters":
        return value
    return reduce(lambda inner, name: {name: inner}, reversed(path.split(".")), value)


def with_makers(nodes: list[Node], run: Run) -> list[str]:
    """Return the names of nodes and of those that make what they read and what is held in memory alone."""
    makers = {name: node for pipeline in all_pipelines().values() for node in pipeline.nodes for name in node.outputs}
    for node in nodes:  # which grows meanwhile
        of_memory = (makers[name] for name in node.inputs if name in makers and is_in_memory(run.catalog.get(name)))
        nodes += [maker for maker in dict.fromkeys(of_memory) if maker not in nodes]
    return [node.name for node in nodes]
