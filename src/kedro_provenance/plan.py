"""Plan a run: which nodes are out of date and why, and whether their inputs fit together."""

import inspect
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain
from operator import getitem
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline

import codeprint.files
from codeprint import Fingerprint, diff
from codeprint.declared import F
from kedro_provenance.catalog import AtomicCatalog, kinds_of
from kedro_provenance.datasets import (
    cannot_tell,
    entry_name,
    is_in_memory,
    is_of_kind,
    is_scratch,
    loaded_folder,
    unversioned_path,
)
from kedro_provenance.entry_digests import digest_of_entry, is_comparable, of_this_process, place_of_entry
from kedro_provenance.files.digests import digest
from kedro_provenance.files.storage import OPEN_ARGS
from kedro_provenance.kedro_internals import names_in_dicts
from kedro_provenance.lineage import Ancestor, remembered
from kedro_provenance.parameters import deciding
from kedro_provenance.project import all_pipelines, code_around, code_of, is_alias, project_packages
from kedro_provenance.recipe import Recipe, StoredVersion, flat, texts

PLACES = {"filepath", "path", "versioned", "version", "credentials", "metadata", "fs_args"}
"""Keys of an entry that locate data without describing them."""
MOST_PARTS = 60  # of more parts of code than these, a record names their modules alone
MOST_CHANGES = 6  # number of changes of code that a reason names
OTHER_CONTENT = "{}: other content than it was made of"
PARTITIONED = "kedro_datasets.partitions.partitioned_dataset.PartitionedDataset"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """A node with the reasons why it has to run; without reasons its outputs are up to date."""

    node: Node
    reasons: tuple[str, ...]


def plan(pipeline: Pipeline, catalog: AtomicCatalog) -> list[Step]:
    """Return the nodes that have to run at most for up-to-date outputs of the pipeline.

    A node runs if its outputs are missing, changed or made by another recipe, or, with outputs in memory, if a node
    that runs reads them. It may have to run if a node that it reads from runs, whose outputs may turn out the same.
    """
    reasons: dict[Node, tuple[str, ...]] = {}
    made_again: set[str] = set()
    formats: dict[str, list[str]] = {}  # in which data are saved or loaded, by the name of their entry
    catalog.read = {name for node in pipeline.nodes for name in node.inputs}
    for name in pipeline.datasets():
        formats.setdefault(entry_name(name), []).append(name)
    for node in pipeline.nodes:
        reasons[node] = tuple(dict.fromkeys(reasons_to_run(node, catalog, made_again)))
        if reasons[node]:
            made_again.update(name for output in node.outputs for name in formats[entry_name(output)])
        elif in_memory := [name for name in node.outputs if is_in_memory(catalog.get(name))]:
            version = version_by(recipe_of(node, catalog), catalog)
            for name in in_memory:
                catalog.keep_in_memory(name, version)
    for node in reversed(pipeline.nodes):
        read = {name for other, why in reasons.items() if why for name in other.inputs}
        needed = [name for name in node.outputs if name in read and is_in_memory(catalog.get(name))]
        reasons[node] = reasons[node] or tuple(f"{name} is needed, but only held in memory" for name in needed)
    return [Step(node, why) for node, why in reasons.items()]


def reasons_to_run(
    node: Node, catalog: AtomicCatalog, made_again: Collection[str] = (), recipe: Recipe | None = None
) -> Iterator[str]:
    """Yield the reasons why a node has to run, where earlier nodes will make the entries `made_again`."""
    if node.name in catalog.records.forced:
        yield "it was named by `kedro provenance force`"
    elif has_nothing_new(node, catalog):
        return
    recipe = recipe or recipe_of(node, catalog, leave_out=made_again)
    yield from recipe.uncertain
    for name in node.inputs:
        if name not in made_again and is_untracked(name, catalog):
            yield f"{name} is only known to this run"
    if remade := [name for name in node.inputs if name in made_again]:
        yield f"{', '.join(remade)} {'is' if len(remade) == 1 else 'are'} made again"
    if leaves_nothing(node, catalog) and catalog.read.isdisjoint(node.outputs):
        if last := catalog.records.last_run(node.name):
            yield from differences(last, recipe)
        else:
            yield "no record of its last inputs"
    for name in node.outputs:
        dataset, stored = catalog.get(name), catalog.stored(name)
        if dataset is None or is_in_memory(dataset):
            continue
        if not (dataset.exists() or (stored and cannot_tell(dataset))):
            yield f"{name} is not there"
        elif stored is None or stored.recipe is None:
            yield f"nothing says what {name} was made of"
        elif not stored.is_intact:
            yield f"the files of {name} were changed"
        else:
            yield from differences(stored.recipe, recipe)


def reasons_to_run_always(node: Node, catalog: AtomicCatalog) -> Iterator[str]:
    """Yield the reasons why a node will run whenever it may, as far as its code and existing data tell."""
    yield from recipe_of(node, catalog, leave_out=node.inputs).uncertain
    for name in (name for name in (*node.inputs, *node.outputs) if holds_data(name, catalog)):
        with suppress(DatasetError):  # nothing is there yet
            if not is_comparable(catalog.entry(name), partial(catalog.load, name)):
                yield f"nothing tells whether the data of {name} are as they were"


def leaves_nothing(node: Node, catalog: AtomicCatalog) -> bool:
    """Whether a node has no outputs, or holds all of them in memory."""
    return all(is_in_memory(catalog.get(name)) for name in node.outputs)


def recipe_of(node: Node, catalog: AtomicCatalog, leave_out: Collection[str] = ()) -> Recipe:
    """Return the recipe of a node for the versions that the catalog would load now, without the inputs `leave_out`."""
    parameters, inputs, entries = dict[str, Any](), {}, {}
    for name in node.inputs:
        if is_parameter(name):
            value = catalog[name].load()  # Kedro would log a line
            parameters[name.removeprefix("params:")] = deciding_values(node, name, value)
    loaded = [name for name in node.inputs if not is_parameter(name) and not is_scratch(catalog.get(name))]
    stored = {name: catalog.stored(name) for name in loaded}
    values = texts(parameters).union(*(version.values for version in stored.values() if version))
    for name, version in stored.items():
        if version is None and name not in leave_out and holds_data(name, catalog):
            inputs[name] = digest_of_input(name, catalog)
            continue
        if version is not None and name not in leave_out:
            inputs[name] = version.content
        entries[name] = digest_of_dataset(name, catalog, "save_args", values)
    for name in node.outputs:
        entries[name] = digest_of_dataset(name, catalog, "load_args", values)
    kinds = {kind for version in stored.values() if version for kind in version.kinds}
    code, around = code_of(node.func, values | kinds), code_around(catalog)
    uncertain = code.uncertain
    if inspect.isgeneratorfunction(node.func):
        uncertain = (*uncertain, "its function yields its outputs in parts, of which some may be missing")
    never_again = of_this_process() if code.uncertain else None
    called = [code.digest, around.digest, never_again, node.inputs, node.outputs, *names_in_dicts(node)]
    parts = shortened({**code.parts, **around.parts})
    return Recipe(node.name, digest(called), parameters, inputs, entries, parts, uncertain)


def shortened(parts: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of parts of code; of many parts, of their modules."""
    if len(parts) <= MOST_PARTS:
        return dict(parts)
    by_module: dict[str, list[str]] = {}
    for name, text in sorted(parts.items()):
        by_module.setdefault(name if " " in name else name.rpartition(".")[0] or name, []).append(f"{name} {text}")
    return {module: codeprint.files.digest(texts)[:8] for module, texts in by_module.items()}


def has_nothing_new(node: Node, catalog: AtomicCatalog) -> bool:
    """Whether a node reads an ``IncrementalDataset`` that has no new partitions, and has left its outputs before.

    To run it would replace them with what it makes of nothing.
    """
    incremental = [name for name in node.inputs if is_of_kind(catalog.get(name), "IncrementalDataset")]
    has_news = any(catalog.exists(name) for name in incremental)
    return bool(incremental) and not has_news and all(catalog.exists(name) for name in node.outputs)


def version_by(recipe: Recipe, catalog: AtomicCatalog, run: str | None = None) -> StoredVersion:
    """Return the record of a version made by a recipe from the versions that the catalog loads now."""
    parents: dict[str, None] = {}
    values = texts(recipe.parameters)
    adds = any(map(is_alias, recipe.inputs))  # raw data to earlier ones, whose file may be gone the next time
    for name in recipe.inputs:
        stored = catalog.stored(name)
        values |= {*stored.values} if stored else set()
        parent = stored.ancestor(name) if stored else raw_ancestor(name, catalog)
        if stored is None and adds:
            parent = replace(parent, place=None)
        made_of = [parent]
        if is_alias(name):  # what else is made of it now is of another time than what it was made of
            made_of = [each for each in (*(stored.lineage if stored else ()), parent) if each.place]
        parents |= dict.fromkeys(map(remembered, made_of))
    return StoredVersion(
        recipe, run=run, revision=catalog.revision, parents=tuple(parents), values=tuple(sorted(values))
    )


def deciding_values(node: Node, name: str, value: Any) -> Any:
    """Return the values of a parameter that affect a node's outputs: those of the fields in `reads`, or all."""
    fields, read = fields_read(node, name), deciding(value)
    if fields is None:
        return read
    chosen: dict[str, Any] = {}
    for field in fields:
        with suppress(KeyError):  # of one that decides nothing
            chosen[field] = reduce(getitem, field.split("."), read)
    return chosen


def fields_read(node: Node, name: str) -> Collection[str] | None:
    """Return the fields of a parameter that a node's function names in `reads`; None if it reads all."""
    for argument, fields in getattr(node.func, "reads", {}).items():
        if dict(zip(inspect.signature(node.func).parameters, node.inputs, strict=False)).get(argument) == name:
            return fields
    return None


def holds_data(name: str, catalog: AtomicCatalog) -> bool:
    """Whether an input of a node is stored data: neither a parameter, nor in memory, nor checkpoints."""
    dataset = catalog.get(name)
    return not (is_parameter(name) or is_in_memory(dataset) or is_scratch(dataset))


def is_untracked(name: str, catalog: AtomicCatalog) -> bool:
    """Return whether an input is data in memory, neither from the catalog file nor from a node."""
    if is_parameter(name) or not is_in_memory(catalog.get(name)) or catalog.stored(name):
        return False
    return "data" not in catalog.entry(name)


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


def present_content(name: str, catalog: AtomicCatalog) -> str:
    """Return the digest of the data that would be loaded."""
    stored = catalog.stored(name)
    return stored.content if stored else digest_of_input(name, catalog)


def code_of_dataset(dataset: AbstractDataset | None, entry: Mapping[str, Any], values: Collection[str] = ()) -> str:
    """Return the digest of the project's code that loads and saves an entry, such as its type and its validator."""
    packages = project_packages()
    named = {text for text in texts(entry) if text.partition(".")[0] in packages}
    return code_of(type(dataset), {*values, *named}).digest


def digest_of_dataset(name: str, catalog: AtomicCatalog, leave_out: str, values: Collection[str]) -> str:
    """Return the digest of how an entry is loaded or saved, by its arguments but `leave_out`, and the code in them."""
    entry, dataset = catalog.entry(name), catalog.get(name)
    if is_in_memory(dataset):
        return digest({key: value for key, value in entry.items() if key not in ("type", "metadata")})
    arguments = {key: value for key, value in entry.items() if key not in (*PLACES, leave_out)}
    opened = {key: value for key, value in (entry.get("fs_args") or {}).items() if key in OPEN_ARGS}
    return digest([arguments, opened, code_of_dataset(dataset, arguments, values)])


def differences(stored: Recipe, now: Recipe) -> Iterator[str]:
    """Yield the differences of an existing version's recipe from the present one, except for inputs that `now` lacks.

    Examples:
        >>> stored = Recipe("train", "1", {"model": {"depth": 8}}, {"orders": "2"}, {})
        >>> now = Recipe("train", "1", {"model": {"depth": 4}}, {"orders": "3"}, {})
        >>> list(differences(stored, now))
        ['model.depth 8 -> 4', 'orders: other content than it was made of']
    """
    codes = [Fingerprint(each.code, each.parts if stored.parts else {}) for each in (stored, now)]
    if changes := diff(*codes):
        more = [f"{len(changes) - MOST_CHANGES} more"] if len(changes) > MOST_CHANGES else []
        yield f"its code: {', '.join([*changes[:MOST_CHANGES], *more])}"
    before, after = (dict(flat(recipe.parameters)) for recipe in (stored, now))
    for path in sorted(before.keys() | after.keys()):
        old, new = (repr(values[path]) if path in values else "(not there)" for values in (before, after))
        if old != new:
            yield f"{path} {old} -> {new}"
    if [*before] != [*after] and before == after:
        yield "its parameters are in another order"
    for name, content in now.inputs.items():
        if name not in stored.inputs:
            yield f"it did not read {name}"
        elif stored.inputs[name] != content:
            yield OTHER_CONTENT.format(name)
    for name, loaded in now.entries.items():
        if name in stored.entries and stored.entries[name] != loaded:
            yield f"{name} is loaded or saved in another way"
    if missing := [name for name in stored.entries if name not in now.entries]:
        yield f"its node had {', '.join(missing)}, too"


def by_partition(function: F) -> F:
    """Declare that a node makes each partition of its output from the one of its input with the same name alone.

    Its function then gets the new and changed partitions, or none, where nothing else has changed. It returns what it
    makes of them by the same names.
    """
    vars(function)["is_by_partition"] = True
    return function


def choose_partitions(node: Node, inputs: Mapping[str, Any], catalog: AtomicCatalog) -> dict[str, Any]:
    """Return the partitions that a node which works by partition gets in place of all, and note them for its record."""
    if not getattr(getattr(node.func, "func", node.func), "is_by_partition", False):  # of a partial object, too
        return {}
    names = [name for name in (*node.inputs, *node.outputs) if PARTITIONED in str(type(catalog.get(name)))]
    places = [unversioned_path(catalog.get(name)) for name in names]
    if len(names) != 2 or names[1:] != node.outputs or None in places or catalog.entry(names[1]).get("overwrite"):
        logger.info("%s gets all partitions: it must read one local PartitionedDataset, and add to one.", node.name)
        return {}
    name, output = names
    making, stored, now = catalog.making[output], catalog.stored(output), partition_digests(name, inputs[name], catalog)
    reasons = {*reasons_to_run(node, catalog, recipe=making.recipe)} if output in catalog.outdated else set()
    before = stored.partitions if stored and reasons == {OTHER_CONTENT.format(name)} else {}
    given = {part: load for part, load in inputs[name].items() if before.get(part) != now[part]}
    catalog.making[output] = replace(making, partitions=now, kept=now.keys() - given.keys())
    logger.info("%s runs for %d of %d partitions.", node.name, len(given), len(now))
    return {name: given}


def partition_digests(name: str, parts: Iterable[str], catalog: AtomicCatalog) -> dict[str, str]:
    """Return a digest per partition, of its content, how it is read, and the files beside them, which it may need."""
    entry, dataset, folder = catalog.entry(name), catalog.get(name), unversioned_path(catalog.get(name))
    assert folder
    places = {folder / f"{part}{entry.get('filename_suffix', '')}": part for part in parts}
    others = [file for file in codeprint.files.files_in(folder) if places.keys().isdisjoint((file, *file.parents))]
    around = [digest_of_entry({**entry, "path": ""}), code_of_dataset(dataset, entry, kinds_of(folder))]
    around += [f"{file.relative_to(folder)} {codeprint.files.remembered_sha256(file)}" for file in others]
    return {part: digest([around, codeprint.files.digest_of_files(place)]) for place, part in places.items()}


def foreign_origins(names: Iterable[str], catalog: AtomicCatalog) -> list[str]:
    """Return a sentence per entry that is made from other raw data than the catalog names, such as another data set's.

    Raw data that were changed in place count as the same.
    """
    foreign: dict[Ancestor, list[str]] = {}
    for name in sorted(name for name in names if holds_data(name, catalog)):
        stored = catalog.stored(name)
        for each in stored.lineage if stored else ():
            entry = catalog.entry(each.entry)
            if each.place and entry and each.place != place_of_entry(entry):
                foreign.setdefault(each, []).append(name)
    return [
        f"{each.entry} lies in {place_of_entry(catalog.entry(each.entry))} here. Made of "
        f"{each.place}: {', '.join(made)}."
        for each, made in foreign.items()
        if each.content != digest_of_input(each.entry, catalog)
    ]


def is_made(entry: str) -> bool:
    """Whether a node of the project makes an entry; any other one is raw data, which may have versions, too."""
    outputs = chain.from_iterable(pipeline.all_outputs() for pipeline in all_pipelines().values())
    return entry_name(entry) in map(entry_name, outputs)


def mixed_origins(names: Iterable[str], catalog: AtomicCatalog) -> list[str]:
    """Return a sentence per entry among `names` that comes from another state of an entry than the others do.

    States of equal content count as one, however they were made, among these entries or by the version that would be
    loaded now.
    """
    roots: dict[str, Ancestor] = {}
    ways: dict[tuple[str, str], dict[str | None, Ancestor]] = {}  # in which an entry's content was made, by their key
    for name in sorted(name for name in names if holds_data(name, catalog) and not is_alias(name)):
        stored = catalog.stored(name)
        roots[name] = stored.ancestor(name) if stored else raw_ancestor(name, catalog)
        for each in (roots[name], *(stored.lineage if stored else ())):
            ways.setdefault((each.entry, each.content), {})[each.key] = each
    for entry, content in list(ways):
        if (stored := catalog.stored(entry)) and stored.content == content:
            ways[entry, content][stored.ancestor(entry).key] = stored.ancestor(entry)

    # By a node or an entry and its state: roots that come from it.
    states: dict[tuple[str, str], dict[str, dict[str, Ancestor]]] = {}
    sentences: dict[str, None] = {}
    for name, root in roots.items():
        left, seen = [(root.entry, root.content)], set()
        while left:
            if (state := left.pop()) in seen:
                continue
            seen.add(state)
            [made, *others] = ways[state].values()
            if made.node is None and made.run is not None and is_made(made.entry):
                sentences[f"Nothing says what {made.entry} in its version {made.run} was made of."] = None
                continue
            states.setdefault(("entry", made.entry), {}).setdefault(made.content, {})[name] = made
            if made.key is not None and made.node is not None and not others:
                states.setdefault(("node", made.node), {}).setdefault(made.key, {})[name] = made
                left += (each for each in (made.inputs or {}).items() if not is_alias(each[0]))
    changed = {thing for (kind, thing), by_state in states.items() if kind == "node" and len(by_state) > 1}
    for (kind, thing), by_state in states.items():
        makers = {made.node for of_state in by_state.values() for made in of_state.values()}
        if len(by_state) > 1 and (kind == "node" or not makers & changed):
            parts = [
                f"{', '.join(of_state)} with its {f'run of {made.run}' if made.run else f'state {state[:6]}'}"
                for state, of_state in by_state.items()
                for made in [next(iter(of_state.values()))]
            ]
            sentences[f"{thing} has changed in between. Made {'; '.join(parts)}."] = None
    return list(sentences)
