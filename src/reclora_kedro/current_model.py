"""The current model: a versioned entry, `champion`, that names versions of others in use, like an alias of a registry.

Its newest version counts, and its older ones are its history: see `CurrentModel`. An update reads `champion.<entry>`,
the version that the current model names, `previous.<entry>`, the newest one that any model in the history has named,
and `first.<entry>`, that of the model before the first update; it makes new versions of the entries themselves. These
count as of another origin than their inputs, see `kedro_provenance.run`. An interrupted command that is repeated
starts from the same model.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypedDict, cast

from kedro_provenance.archive import Archive
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import loaded_version
from kedro_provenance.project import entry_of, is_alias
from kedro_provenance.run import Aliases, Run
from kedro_provenance.unfinished import interrupted_runs

logger = logging.getLogger(__name__)

ALIAS, PREVIOUS, FIRST = "champion", "previous", "first"
TABLES = ("interactions", "items", "users", "log", "item_embeddings")  # whose versions a model names, besides weights
CHOICE = "candidate_choice"
"""What no current model names, as it lasts over updates: beside any model, the newest one is in use."""
BEGINNINGS = ("newest", "forgotten")
"""Values of `chosen` in the decision of a model with new tables, from which updates begin."""


class CurrentModel(TypedDict):
    """What the entry `champion` stores: the versions in use by entry, why they are, and the run that made them."""

    versions: dict[str, str]
    decision: Mapping[str, Any]
    made_by: str


class ModelInHistory(CurrentModel):
    """A present or former current model, and the version of the entry that stores it."""

    version: str


class CurrentModelAliases(Aliases):
    """The versions that the current model names, and those that models before it named."""

    names = (ALIAS, PREVIOUS, FIRST)

    def __init__(self, readers: Collection[str] = ()) -> None:
        self.readers = readers  # pipelines that read the current model's versions under the entries' own names

    def versions_to_load(self, run: Run) -> dict[str, str]:
        """Return the versions that the current model, or one in its history, names.

        Versions named by the command stay. If no model names one, or the parameter `champion` is `newest`, the newest
        version of an entry is loaded.
        """
        reads_current = not set(self.readers).isdisjoint(run.params["pipeline_names"] or [])
        names = sorted(run.pipeline.inputs() - (run.params["load_versions"] or {}).keys())
        reads_past = any(map(is_alias, names))
        if not reads_current and not reads_past:
            return {}
        models = models_before(run) if reads_promoted(run) else iter(())
        history = [*models] if reads_past else [*islice(models, 1)]
        pinned: dict[str, str] = {}
        for name in names:
            if is_alias(name):
                version = version_named(name, history) or loaded_version(run.catalog.get(name))
            else:
                version = version_named(f"{ALIAS}.{name}", history) if reads_current else None
            if version:
                pinned[name] = version
        chosen = [name for name in pinned if not name.startswith((f"{PREVIOUS}.", f"{FIRST}."))]
        if history and chosen:
            logger.info(
                "Reading %s of the current model %s. To read the newest versions: `--params champion=newest`.",
                ", ".join(chosen),
                history[0]["version"],
            )
        return pinned

    def begin(self, run: Run) -> None:
        """Name the first current model if there is none, and fill the entries by which nodes know of versions."""
        name_first_model(run)
        fill_entries(run)
        if "archive" in run.pipeline.inputs():
            run.catalog.save("archive", Archive(run.catalog, run.stores))

    def entries_to_fit(self, run: Run) -> set[str]:
        """Return the entries of a first update, which become the current model.

        Those of later models need not be of one origin, as an update names the versions that it made together.
        """
        goes_on_from = {entry_of(name) for name in run.to_run.inputs() if name.startswith(f"{ALIAS}.")}
        return goes_on_from if goes_on_from and not model_history(run.catalog) else set()

    def remedy(self, run: Run) -> str | None:
        """Return what to do where the current model's versions do not fit the newest ones."""
        promoted = [name for name in run.pinned if not is_alias(name)]
        if not promoted:
            return None
        return (
            f"Of {', '.join(promoted)}, the current model names the versions; the others are the newest. Have an "
            "update take these along; or make all of them of one log, and read the newest with `--params "
            "champion=newest`"
        )

    def versions_in_use(self, catalog: AtomicCatalog) -> set[tuple[str, str]]:
        """Return all models of the history, and the versions that updates read and rollbacks go back to.

        These are named by models back to that with which the updates began, and by the one before.
        """
        history = model_history(catalog)
        beginning = history.index(_beginning(history)[0]) if history else 0
        named = {pair for each in history[: beginning + 2] for pair in each["versions"].items()}
        return named | {(ALIAS, each["version"]) for each in history}


def reads_promoted(run: Run) -> bool:
    """Whether a run continues from the current model, and not from the newest versions."""
    return run.parameters.get("champion", "promoted") == "promoted"


def model_history(catalog: AtomicCatalog) -> list[ModelInHistory]:
    """Return the current model and those before it, which it comes first of; empty before the first update."""
    return [*_stored_models(catalog)]


def _stored_models(catalog: AtomicCatalog) -> Iterator[ModelInHistory]:
    """Yield the current model, then those before it."""
    dataset: Any = catalog.get(ALIAS) if ALIAS in catalog else None
    versions = sorted(dataset.list_versions(full_path=False), reverse=True) if dataset else []
    for version in versions:
        yield cast(ModelInHistory, {"version": version, **catalog.load(ALIAS, version)})


def models_before(run: Run) -> Iterator[ModelInHistory]:
    """Yield the models that a run continues from, without those of interrupted runs of its command."""
    interrupted = interrupted_runs(run.data, run.params)
    return (each for each in _stored_models(run.catalog) if each["version"] not in interrupted)


def version_named(name: str, history: Sequence[ModelInHistory]) -> str | None:
    """Return the version of an entry that a model of the history names, the current one first; None if none does.

    Examples:
        >>> decisions = {"4": {"chosen": "rollback", "to": "2"}, "3": {"chosen": "challenger"}}
        >>> decisions |= {"2": {"chosen": "challenger"}, "1": {"chosen": "newest"}}
        >>> lenses = {"4": "2", "3": "3", "2": "2", "1": "1"}
        >>> history = [
        ...     {"version": run, "decision": decisions[run], "versions": {"lens": lenses[run]}} for run in "4321"
        ... ]
        >>> [version_named(f"{kind}.lens", history) for kind in ("champion", "previous", "first")]
        ['2', '3', '1']
    """
    kind, _, entry = name.partition(".")
    named = history if kind == PREVIOUS else _beginning(history) if kind == FIRST else history[:1]
    return max((each["versions"][entry] for each in named if entry in each["versions"]), default=None)


def _beginning(history: Sequence[ModelInHistory]) -> list[ModelInHistory]:
    """Return the model with which the updates that led to the current one began, allowing for rollbacks."""
    beginning: list[ModelInHistory] = []
    until = None
    for each in history:
        if until is None or each["version"] <= until:
            beginning, until = [each], each["decision"].get("to")
            if each["decision"].get("chosen") in BEGINNINGS:
                break
    return beginning


def name_first_model(run: Run) -> None:
    """Name the newest versions as the first current model if there is none; a killed update must not start from itself.

    A run that makes none of the entries anew, as monitoring, names none. This model has the version of the newest entry
    that it names.
    """
    past = {name for name in run.pipeline.inputs() if is_alias(name)}
    names = {entry_of(name): name for name in past}
    names.pop(CHOICE, None)
    if not any(name.startswith(f"{ALIAS}.") for name in past) or not names.keys() & run.pipeline.all_outputs():
        return
    versions = {entry: version for entry, name in names.items() if (version := loaded_version(run.catalog.get(name)))}
    present, newest = next(_stored_models(run.catalog), None), max(versions.values())
    if present and (reads_promoted(run) or present["version"] >= newest):
        return
    model = CurrentModel(versions=dict(sorted(versions.items())), decision={"chosen": "newest"}, made_by=newest)
    AtomicCatalog.from_config({ALIAS: run.catalog.entry(ALIAS)}, save_version=newest).save(ALIAS, model)


def fill_entries(run: Run) -> None:
    """Fill the entries `model_history` and `versions_in_use` if nodes read them, as nodes know no versions."""

    def versions_in_use(names: Iterable[str]) -> dict[str, str | None]:
        """Return the versions of entries that would be loaded now, including those saved by this run."""
        return {name: loaded_version(run.catalog.get(name)) for name in names}

    for name, value in (("model_history", models_before), ("versions_in_use", None)):
        if name in run.pipeline.inputs():
            run.catalog.save(name, [*value(run)] if value else versions_in_use)
