"""Digests of catalog entries that no node made."""

from collections.abc import Collection, Mapping
from typing import Any

from kedro.io import AbstractDataset

from kedro_provenance.catalog import AtomicCatalog, kinds_of, loaded_folder, unversioned_path
from kedro_provenance.entry_digests import digest_of_entry, place_of_entry
from kedro_provenance.files.digests import digest
from kedro_provenance.lineage import Ancestor
from kedro_provenance.project import code_of, project_packages
from kedro_provenance.recipe import texts


def raw_ancestor(name: str, catalog: AtomicCatalog) -> Ancestor:
    """Return an entry that no node made, as an ancestor of others."""
    place = place_of_entry(catalog.entry(name))
    return Ancestor(name, digest_of_input(name, catalog), place=place)


def digest_of_input(name: str, catalog: AtomicCatalog) -> str:
    """Return the digest of an entry that no node made: configuration, files, and the project's code that reads them."""
    if name not in catalog.raw_digests:
        entry, dataset = catalog.entry(name), catalog.get(name)
        read = {key: value for key, value in entry.items() if key not in getattr(dataset, "RESOURCES", ())}
        content = digest_of_entry(read, lambda: catalog.load(name))
        path = loaded_folder(dataset) or unversioned_path(dataset)
        kinds = kinds_of(path) if path and path.exists() else ()
        catalog.raw_digests[name] = digest([content, code_of_dataset(dataset, read, kinds)])
    return catalog.raw_digests[name]


def code_of_dataset(dataset: AbstractDataset | None, entry: Mapping[str, Any], values: Collection[str] = ()) -> str:
    """Return the digest of the project's code that loads and saves an entry, such as its type and its validator.

    Args:
        entry: the arguments of the entry that count.
        values: see `code_of`.
    """
    packages = project_packages()
    named = {text for text in texts(entry) if text.partition(".")[0] in packages}
    return code_of(type(dataset), {*values, *named}).digest
