"""Results traced both ways through their records: what they were made of, and what was made of them."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from kedro.io.core import is_parameter

from kedro_provenance.archive import Archive, ArchivedVersion
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import is_versioned, local_path, unversioned_path
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.plan import present_content
from kedro_provenance.project import all_pipelines
from kedro_provenance.stores import Store


def known_entries(catalog: AtomicCatalog) -> list[str]:
    """Return the entries of the catalog and those of all pipelines, which patterns may make."""
    datasets = set().union(*(pipeline.datasets() for pipeline in all_pipelines().values()))
    return sorted(name for name in {*catalog.keys(), *datasets} if not is_parameter(name))


def require_run(run_id: str, existing: Collection[str]) -> None:
    """Raise RunRefusedError for a run of which no result is among the existing ones."""
    if run_id not in existing:
        newest = ", ".join(sorted(existing)[-5:]) or "none"
        raise RunRefusedError(f"No result of a run {run_id} is kept. The newest runs with results are: {newest}.")


def choose(named: str, folder: Path, version: str | None, catalog: AtomicCatalog) -> tuple[str, str | None]:
    """Return the entry with a name or a file, and its version, which is pinned; raise RunRefusedError without one."""
    entry, path, names = named, (folder / named).resolve(), known_entries(catalog)
    if named not in names:
        places = {name: place.resolve() for name in names if (place := local_path(catalog.get(name)))}
        holding = [name for name, place in places.items() if path.is_relative_to(place)]
        if not (path.exists() and holding):
            raise RunRefusedError(f"{named} is neither an entry of the catalog nor a file that one of them names.")
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
