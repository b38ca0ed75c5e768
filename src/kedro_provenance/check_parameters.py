"""Parameters are sound before pipelines are built from them, and no name of an environment is misspelt."""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.validation.type_extractor import TypeExtractor
from pydantic import TypeAdapter, ValidationError

from kedro_provenance.failures import RunRefusedError
from kedro_provenance.parameters import NameRefusedError, misplaced, parameter_paths, wrong_values
from kedro_provenance.session_parameters import use_parameters

FLAGS: dict[str, Any] = {
    "dry_run": bool,
    "allow_mixed": bool,
    "champion": Literal["promoted", "newest"],
}  # which the start of a run reads
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast


def check_parameters(context: KedroContext, blocks: Mapping[str, Any]) -> None:
    """Look at the parameters of the session's environment, and at its runtime parameters; have pipelines made by them.

    Args:
        context: of the session.
        blocks: types of blocks that no node reads.

    Raises:
        RunRefusedError: a parameter is unknown, or a value is none that its step takes.
    """
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)
    parameters = loader["parameters"]
    declared = written_in(loader, loader.base_env, "parameters") or parameters  # conf may be an archive
    faults = list(misplaced(parameters, declared, getattr(loader, "named_blocks", ())))
    if not faults:
        use_parameters(parameters)
        try:
            types = TypeExtractor(dict(pipelines)).extract_types_from_pipelines() | FLAGS | dict(blocks)
            faults = list(refused_values(parameters, types, list(parameter_paths(declared))))
        except NameRefusedError as error:
            faults = [str(error)]
    if faults:
        lines = [f"- {fault}" for fault in faults]
        remedy = (
            f"Correct them in conf/{context.env or loader.default_run_env}/ or conf/base/, or behind --params. "
            "conf/base/parameters_*.yml say what each parameter means."
        )
        raise RunRefusedError("\n".join(["These parameters are refused. Nothing was written.", *lines, remedy]))


def check_names(context: KedroContext) -> None:
    """Look for misspelt globals and catalog entries of the session's environment: others are read in their place.

    Names that differ by more than a slip, by a number at their end, or that parameters name, are none.

    Raises:
        RunRefusedError: one that nothing reads has almost the name of one of conf/base; or a file cannot be read.
    """
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)
    env, faults = context.env or loader.default_run_env, []
    named = json.dumps(loader["parameters"], default=str)
    read = set().union(*(pipeline.datasets() for pipeline in pipelines.values()))
    for kind in ("globals", "catalog"):
        loader[kind]  # says what is wrong with a file that is no YAML
        base, own = (written_in(loader, folder, kind) for folder in (loader.base_env, env))
        for name in sorted(own.keys() - base.keys() - read):
            alike = [each for each in base.keys() - own.keys() if abs(len(each) - len(name)) <= 1]
            if f'"{name}"' in named or name.rstrip("0123456789") in alike:
                continue
            near = get_close_matches(name, alike, n=1, cutoff=0.8)
            faults += [f"- {name} ({kind}*.yml): nothing reads it. The nearest name is {each}." for each in near]
    if faults:
        lines = ["These names are misspelt. Nothing was written.", *faults]
        raise RunRefusedError("\n".join([*lines, f"Correct them in conf/{env}/, or take them out."]))


def written_in(loader: OmegaConfigLoader, env: str, kind: str) -> dict[str, Any]:
    """What an environment's files of a kind say, as it is written, with the blocks of all of them side by side.

    The folders below base count as base.

    A second loader of Kedro's would take the globals of the first.
    """
    below_base = getattr(loader, "below_base", ()) if env == loader.base_env else ()
    folders = [*below_base, Path(loader.conf_source) / env]
    files = [path for folder in folders for path in sorted(folder.rglob(f"{kind}*.yml")) if path.is_file()]
    texts = (path.read_text("utf-8") for path in files)
    return {name: block for text in texts for name, block in (yaml.load(text, SAFE_LOADER) or {}).items()}


def refused_values(parameters: Mapping[str, Any], types: Mapping[str, type], paths: list[str]) -> Iterator[str]:
    """What is wrong with the values of blocks, one line each.

    Args:
        parameters: nested blocks of all parameters.
        types: by the path of a block, what it must be.
        paths: paths of all parameters that there are.
    """
    for path, expected in types.items():
        block: Any = parameters
        for name in path.split("."):
            block = block[name]
        if block is None and type(None) in get_args(expected):
            continue
        try:
            TypeAdapter(expected).validate_python(block)
        except ValidationError as error:
            yield from wrong_values(error, block, path, paths)
