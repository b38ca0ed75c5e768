"""Digests of catalog entries that no node made."""

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.code import code_digest
from kedro_provenance.entry_digests import digest_of_entry, place_of_entry
from kedro_provenance.files.digests import digest
from kedro_provenance.lineage import Ancestor
from kedro_provenance.project import project_packages


def raw_ancestor(name: str, catalog: AtomicCatalog) -> Ancestor:
    """Return an entry that no node made, as an ancestor of others."""
    place = place_of_entry(catalog.config_resolver.resolve_pattern(name))
    return Ancestor(name, digest_of_input(name, catalog), place=place)


def digest_of_input(name: str, catalog: AtomicCatalog) -> str:
    """Return the digest of an entry that no node made: configuration, files, and the project's code that reads them."""
    if name not in catalog.raw_digests:
        entry, dataset = catalog.config_resolver.resolve_pattern(name), catalog.get(name)
        read = {key: value for key, value in entry.items() if key not in getattr(dataset, "RESOURCES", ())}
        content = digest_of_entry(read, lambda: catalog.load(name))
        catalog.raw_digests[name] = digest([content, code_digest(type(dataset), project_packages())])
    return catalog.raw_digests[name]
