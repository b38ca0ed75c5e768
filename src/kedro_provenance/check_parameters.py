"""Checks at the start of a session: all wrong parameters at once, and misspelt names of an environment."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from pydantic import TypeAdapter, ValidationError

from kedro_provenance.errors import Fault, Faults, NameRefusedError
from kedro_provenance.failures import refuse_faults
from kedro_provenance.kedro_internals import HAS_TYPES, TypesOfParameters
from kedro_provenance.parameters import parameter_paths, soft_merge, structure_faults, value_faults
from kedro_provenance.project import base_parameters, use_parameters
from kedro_provenance.run import configuration

FLAGS: dict[str, Any] = {"dry_run": bool, "allow_mixed": bool}  # what the start of a run reads, where a project has it
BlockTypes = Callable[[Mapping[str, Any], Collection[str]], Mapping[str, Any]]
"""Function that returns types of blocks from all parameters and the names of what the nodes read."""
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast


def check_parameters(
    context: KedroContext, blocks: Mapping[str, Any], block_types: Sequence[BlockTypes] = (), names: bool = False
) -> None:
    """Make the pipelines from the parameters of a session; refuse those that they do not take, all in one message.

    Kedro's own `ParameterValidator` logs each fault and keeps only its text, so its types are used with pydantic's
    errors, one line per fault.

    Args:
        blocks: types of blocks that no node reads.
        block_types: return the types of blocks that nodes read without a type of their own.
        names: refuse parameters that the base environment does not have, too.
    """
    loader = context.config_loader
    parameters = configuration(loader, "parameters")
    declared, faults = parameters, list[Fault]()
    if names and isinstance(loader, OmegaConfigLoader):
        declared = written_in(loader, loader.base_env, "parameters") or parameters  # conf may be an archive
        faults += structure_faults(parameters, declared, getattr(loader, "named_blocks", ()))
    types = {name: kind for name, kind in FLAGS.items() if name in parameters} | dict(blocks)
    try:
        types |= types_of_blocks(with_declared_blocks(parameters, declared), block_types)
    except NameRefusedError as error:
        faults += error.args
        with suppress(NameRefusedError):
            types |= types_of_blocks(base_parameters(loader.conf_source), block_types)
    refused = {fault.subject for fault in faults}
    values = check_values(parameters, types, list(parameter_paths(declared)))
    faults += [fault for fault in values if fault.subject not in refused]
    env = context.env or getattr(loader, "default_run_env", None) or "base"
    advice = f"Correct them in conf/{env}/ or conf/base/, or behind --params."
    refuse_faults("These parameters are refused.", str(Faults(*faults)).splitlines(), advice)


def with_declared_blocks(parameters: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters where each value in the place of a whole block is replaced by the declared block."""
    wrong = (name for name, value in declared.items() if isinstance(value, Mapping))
    return {**parameters, **{name: declared[name] for name in wrong if not isinstance(parameters[name], Mapping)}}


def types_of_blocks(parameters: Mapping[str, Any], block_types: Sequence[BlockTypes] = ()) -> dict[str, Any]:
    """Make the requested pipelines from parameters; return the types of the blocks that their nodes read, by path."""
    use_parameters(parameters)
    made = dict(pipelines)
    read = set().union(*(pipeline.inputs() for pipeline in made.values()))
    types = TypesOfParameters(made).extract_types_from_pipelines() if HAS_TYPES else {}
    for types_of in block_types:
        types |= types_of(parameters, read)
    return types


def check_names(context: KedroContext) -> None:
    """Refuse misspelt globals and catalog entries of the session's environment, in whose place others would be read.

    A name counts as misspelt if no node reads it, no parameter names it, and one of the base environment differs from
    it by a slip, but not by a number at its end alone.
    """
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)
    env, faults = context.env or loader.default_run_env, []
    named = json.dumps(configuration(loader, "parameters"), default=str)
    read = set().union(*(pipeline.datasets() for pipeline in pipelines.values()))
    for kind in ("globals", "catalog"):
        loader[kind]  # refuses a file that is no YAML
        base, own = (written_in(loader, folder, kind) for folder in (loader.base_env, env))
        for name in sorted(own.keys() - base.keys() - read):
            alike = [each for each in base.keys() - own.keys() if abs(len(each) - len(name)) <= 1]
            if f'"{name}"' in named or name.rstrip("0123456789") in alike:
                continue
            near = get_close_matches(name, alike, n=1, cutoff=0.8)
            faults += [f"{name} ({kind}*.yml): nothing reads it. The nearest name is {each}." for each in near]
    refuse_faults("These names are misspelt.", faults, f"Correct them in conf/{env}/, or take them out.")


def written_in(loader: OmegaConfigLoader, env: str, kind: str) -> dict[str, Any]:
    """Return the blocks of an environment's files of a kind as they are written, with nothing resolved.

    Folders below base count as base. Kedro's own loader is not used: a second one would replace the globals of the
    first in values that are still to be resolved.
    """
    below_base = getattr(loader, "below_base", ()) if env == loader.base_env else ()
    folders = [*below_base, Path(loader.conf_source) / env]
    patterns = loader.config_patterns[kind]
    found = {path: None for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern))}
    files = [path for path in found if path.is_file() and path.suffix in (".yml", ".yaml", ".json")]
    texts = (path.read_text("utf-8") for path in files)
    return reduce(soft_merge, (yaml.load(text, SAFE_LOADER) or {} for text in texts), {})


def check_values(parameters: Mapping[str, Any], types: Mapping[str, Any], paths: list[str]) -> Iterator[Fault]:
    """Yield a fault for each wrong value of the blocks that exist; `types` and `paths` have dotted paths."""
    for path, expected in types.items():
        try:
            block: Any = reduce(lambda outer, name: outer[name], path.split("."), parameters)
        except (KeyError, TypeError):  # of an environment's own variant, or within a value in the place of a block
            continue
        if block is None and type(None) in get_args(expected):
            continue
        try:
            TypeAdapter(expected).validate_python(block)
        except ValidationError as error:
            yield from value_faults(error, block, path, paths).args
