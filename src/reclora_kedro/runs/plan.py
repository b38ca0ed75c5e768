"""Which nodes a run has to run, and why; and whether what it reads fits together."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kedro.io import MemoryDataset
from kedro.io.core import is_parameter
from kedro.pipeline import Node, Pipeline

from reclora_kedro.files.digests import digest
from reclora_kedro.runs.catalog import AtomicCatalog, is_checkpoint_store, location
from reclora_kedro.runs.provenance import Origin, Provenance, code_digest, read_of
from reclora_kedro.runs.raw_data import digest_of_entry


@dataclass(frozen=True)
class Step:
    """A node, and why it has to run; no reasons: what it left fits."""

    node: Node
    reasons: tuple[str, ...]


def plan(pipeline: Pipeline, catalog: AtomicCatalog) -> list[Step]:
    """What has to run so that all that the pipeline leaves is made of this run's inputs, parameters and code.

    A node runs if its outputs are missing, changed since or made in another way, or if a node that it reads from runs.
    """
    steps: list[Step] = []
    made_again: set[str] = set()
    for node in pipeline.nodes:
        reasons = tuple(dict.fromkeys(reasons_to_run(node, catalog, made_again)))
        if reasons:
            made_again.update(node.outputs)
        steps.append(Step(node, reasons))
    return steps


def reasons_to_run(node: Node, catalog: AtomicCatalog, made_again: Collection[str]) -> Iterator[str]:
    """Why a node has to run.

    Args:
        node: the node.
        catalog: what there is.
        made_again: entries that nodes before it make again.
    """
    if not node.outputs:
        yield "it shows what it reads, and leaves nothing"
    for name in node.inputs:
        if is_of_this_run_alone(name, catalog):
            yield f"{name} is known to this run alone"
    if again := [name for name in node.inputs if name in made_again]:
        yield f"{', '.join(again)} {'is' if len(again) == 1 else 'are'} made again"
    for name in node.outputs:
        if not catalog.exists(name):
            yield f"{name} is not there"
        elif (stored := catalog.provenance(name)) is None:
            yield f"nothing says what {name} was made of"
        elif not catalog.is_intact(name):
            yield f"the files of {name} were changed"
        else:
            yield from differences(stored, made_by(node, catalog, leave_out=made_again))


def made_by(
    node: Node, catalog: AtomicCatalog, run_id: str | None = None, leave_out: Collection[str] = ()
) -> Provenance:
    """The provenance of what a node makes of the versions that the catalog would load now.

    Args:
        node: the node.
        catalog: where its inputs lie.
        run_id: of the run that makes it; None for none that is there.
        leave_out: inputs that are not looked at.
    """
    code, parameters, inputs = code_digest(node.func), {}, {}
    origins: dict[str, Origin] = {}
    mixed = mixed_origins(set(node.inputs) - set(leave_out), catalog)
    for name in node.inputs:
        if is_parameter(name):
            parameters[name.removeprefix("params:")] = read_of(node, name, catalog.load(name))
        elif name not in leave_out and holds_data(name, catalog):
            version, provenance = catalog.version(name), catalog.provenance(name)
            if provenance:
                inputs[name] = Origin(provenance.content, version)
                origins |= provenance.origins
            else:
                inputs[name] = origins[name] = Origin(digest_of_input(name, catalog), version)
    given = digest([code, parameters, {name: origin.digest for name, origin in inputs.items()}])
    origins[node.name] = Origin(given, run_id)
    return Provenance(node.name, code, parameters, inputs, origins, tuple(mixed))


def holds_data(name: str, catalog: AtomicCatalog) -> bool:
    """Whether an input of a node is data on disk or elsewhere: no parameter, nothing in memory, no checkpoints."""
    dataset = catalog.get(name)
    return not (is_parameter(name) or isinstance(dataset, MemoryDataset) or is_checkpoint_store(dataset))


def is_of_this_run_alone(name: str, catalog: AtomicCatalog) -> bool:
    """Whether an input is data in memory that no configuration gives, so that nothing tells whether they changed."""
    in_memory = not is_parameter(name) and isinstance(catalog.get(name), MemoryDataset)
    return in_memory and "data" not in catalog.config_resolver.resolve_pattern(name)


def digest_of_input(name: str, catalog: AtomicCatalog) -> str:
    """Digest of an entry that no node made: of its configuration, its files, and the project's code that reads them."""
    entry = digest_of_entry(catalog.config_resolver.resolve_pattern(name), lambda: catalog.load(name))
    return digest([entry, code_digest(type(catalog[name]))])


def differences(stored: Provenance, now: Provenance) -> Iterator[str]:
    """In what a version that there is was made differently from what would be made now.

    Inputs that ``now`` does not have are passed over.

    Examples:
        >>> stored = Provenance("lens.train_lens", "1", {"lens": {"hidden_dim": 128}}, {"log": Origin("2", "a")}, {})
        >>> now = Provenance("lens.train_lens", "1", {"lens": {"hidden_dim": 64}}, {"log": Origin("3", "b")}, {})
        >>> list(differences(stored, now))
        ['lens.hidden_dim 128 -> 64', 'log: other content than it was made of']
    """
    if stored.node != now.node:
        yield f"{stored.node} made it, not {now.node}"
    if stored.code != now.code:
        yield "the project's code that it runs was changed"
    before, after = (dict(_flat(provenance.parameters)) for provenance in (stored, now))
    for path in sorted(before.keys() | after.keys()):
        old, new = (str(values[path]) if path in values else "(not there)" for values in (before, after))
        if old != new:
            yield f"{path} {old} -> {new}"
    for name, origin in now.inputs.items():
        if name not in stored.inputs:
            yield f"it did not read {name}"
        elif stored.inputs[name].digest != origin.digest:
            yield f"{name}: other content than it was made of"


def mixed_origins(names: Iterable[str], catalog: AtomicCatalog) -> list[str]:
    """Sentences about entries that come from different states of the same thing.

    Args:
        names: entries that are read together.
        catalog: where they lie.
    """
    states: dict[str, dict[str, dict[str, Origin]]] = {}  # by what it is and its digest: entries that come from it
    sentences: dict[str, None] = {}
    for name in sorted(name for name in names if holds_data(name, catalog)):
        version, provenance = catalog.version(name), catalog.provenance(name)
        if provenance:
            sentences.update(dict.fromkeys(provenance.mixed))
            origins = provenance.origins
        elif version:
            sentences[f"Nothing says what {name} in {location(catalog.get(name))}/{version} was made of."] = None
            continue
        else:
            origins = {name: Origin(digest_of_input(name, catalog), None)}
        for thing, origin in origins.items():
            states.setdefault(thing, {}).setdefault(origin.digest, {})[name] = origin
    for thing, by_digest in states.items():
        if len(by_digest) > 1:
            parts = [
                f"{', '.join(entries)} with its {f'run of {version}' if version else f'state {digest[:6]}'}"
                for digest, entries in by_digest.items()
                for version in [next(iter(entries.values())).version]
            ]
            sentences[f"{thing} has changed in between. Made {'; '.join(parts)}."] = None
    return list(sentences)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, value
