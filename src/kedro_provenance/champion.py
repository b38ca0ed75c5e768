"""The champion: a versioned entry that names those versions of other entries that are in use, and why these.

It is what MLflow's registry calls an alias. Its newest version counts, and its older ones are its history: a record of
`versions` (by entry), `decision` and `made_by` (a run). An update reads `champion.<entry>`, the version that the
champion names, and `previous.<entry>`, the newest one when the run begins, and leaves new versions of the entries
themselves. What is made so is no longer of one origin with what these came from, see `kedro_provenance.plan`.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from kedro_provenance.catalog import AtomicCatalog, loaded_version
from kedro_provenance.run import Run

logger = logging.getLogger(__name__)

CHAMPION, PREVIOUS = "champion", "previous"


def is_of_the_past(name: str) -> bool:
    """Whether an entry is a version of another one that was there before the run.

    Examples:
        >>> [is_of_the_past(name) for name in ("previous.items", "champion.reclora.adapter", "champion")]
        [True, True, False]
    """
    return name.startswith((f"{CHAMPION}.", f"{PREVIOUS}."))


def entry_of(name: str) -> str:
    """The entry that an entry of the past is a version of; any other name as it is.

    Examples:
        >>> entry_of("champion.reclora.adapter"), entry_of("reclora.adapter")
        ('reclora.adapter', 'reclora.adapter')
    """
    return name.partition(".")[2] if is_of_the_past(name) else name


def champion_history(catalog: AtomicCatalog) -> list[dict[str, Any]]:
    """All champions, the present one first, each with its own `version`; empty before the first update."""
    return [*_champions(catalog)]


def _champions(catalog: AtomicCatalog) -> Iterator[dict[str, Any]]:
    """The same, loaded one by one."""
    dataset: Any = catalog.get(CHAMPION) if CHAMPION in catalog else None
    versions = sorted(dataset.list_versions(full_path=False), reverse=True) if dataset else []
    yield from ({"version": version, **catalog.load(CHAMPION, version)} for version in versions)


def pin_versions(run: Run) -> None:
    """Have the run load the versions that the champion names, and of `previous` entries those that are there now.

    Versions that the command names stay as they are. Where there is no champion yet, or the parameter `champion` is
    `newest`, the newest version of an entry takes its place.

    The pipelines in `run.champion_readers` read them under the entries' own names.
    """
    reads_champion = not set(run.champion_readers).isdisjoint(run.params["pipeline_names"] or [])
    names = sorted(run.pipeline.inputs() - (run.params["load_versions"] or {}).keys())
    if not reads_champion and not any(map(is_of_the_past, names)):
        return
    current = next(_champions(run.catalog), None) if run.parameters.get("champion", "promoted") == "promoted" else None
    versions = current["versions"] if current else {}
    pinned: dict[str, str] = {}
    for name in names:
        newest = loaded_version(run.catalog.get(name))
        if is_of_the_past(name):
            version = newest if name.startswith(f"{PREVIOUS}.") else versions.get(entry_of(name), newest)
        else:
            version = versions.get(name) if reads_champion else None
        if version:
            pinned[name] = version
    run.catalog.pin(pinned)
    run.promoted = [name for name in pinned if not is_of_the_past(name)]
    chosen = [name for name in pinned if not name.startswith(f"{PREVIOUS}.")]
    if current and chosen:
        logger.info(
            "Reads %s of the champion %s. The newest versions: `--params champion=newest`.",
            ", ".join(chosen),
            current["version"],
        )


def name_first_champion(run: Run) -> None:
    """Name what an update goes on from the champion, where there is none: a killed update must not go on from itself.

    This champion has the version of the newest entry that it names.
    """
    past = {name for name in run.pipeline.inputs() if is_of_the_past(name)}
    if not any(name.startswith(f"{CHAMPION}.") for name in past):
        return
    versions = {entry_of(name): version for name in past if (version := loaded_version(run.catalog.get(name)))}
    present, newest = next(_champions(run.catalog), None), max(versions.values())
    if present and (run.parameters.get("champion", "promoted") == "promoted" or present["version"] >= newest):
        return
    record = {"versions": dict(sorted(versions.items())), "decision": {"chosen": "newest"}, "made_by": newest}
    entry = run.catalog.config_resolver.resolve_pattern(CHAMPION)
    AtomicCatalog.from_config({CHAMPION: entry}, save_version=newest).save(CHAMPION, record)


def give_champion(run: Run) -> None:
    """Fill the entries `champion_history` and `versions_in_use` where nodes read them: nodes know no versions."""

    def versions_in_use(names: Iterable[str]) -> dict[str, str | None]:
        """The versions of entries that would be loaded now, which are this run's once it has saved them."""
        return {name: loaded_version(run.catalog.get(name)) for name in names}

    for name, value in (("champion_history", champion_history), ("versions_in_use", None)):
        if name in run.pipeline.inputs():
            run.catalog.save(name, value(run.catalog) if value else versions_in_use)
