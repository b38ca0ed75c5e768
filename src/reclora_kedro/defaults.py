"""The defaults of all settings: conf/base, as a clone has it and as the wheel carries it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kedro_provenance.files.package_files import package_file
from kedro_provenance.parameters import nearest_path, parameter_paths, soft_merge

CARRIED = Path(__file__).parent / "project"  # where the wheel carries the files of a project
BASE = (CARRIED if CARRIED.exists() else Path(__file__).parents[2]) / "conf" / "base"


def default_parameters(steps: Collection[str], seed: Any = None) -> dict[str, Any]:
    """Return the blocks of the parameter files of some steps, with one seed of all draws, by default globals.yml's."""
    return _read([f"parameters_{step}.yml" for step in steps], {} if seed is None else {"seed": seed})


def default_entry(step: str, name: str) -> dict[str, Any]:
    """Return the keys of an entry of a step's catalog but its type."""
    return {key: value for key, value in _read([f"catalog_{step}.yml"], {})[name].items() if key != "type"}


def _read(files: Collection[str], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the blocks of files, in which ``${globals:...}`` is resolved, also by changed globals.

    Kedro's own loader would replace the globals of a session that is under way.
    """
    OmegaConf.register_new_resolver("package_file", package_file, replace=True)  # as settings.py does
    shared, *parts = (
        OmegaConf.create((BASE / file).read_text(encoding="utf-8").replace("${globals:", "${globals."))
        for file in ("globals.yml", *files)
    )
    merged = OmegaConf.merge({"globals": OmegaConf.merge(shared, changed)}, *parts)
    blocks: Any = OmegaConf.to_container(merged, resolve=True)
    return {name: block for name, block in blocks.items() if name != "globals"}


def change_settings(
    blocks: dict[str, Any], settings: Mapping[str, Any], caller: str, unread: Collection[str] = ()
) -> None:
    """Change parameters by their paths, or by the last name of the path where only one ends in it.

    Values that are blocks change what they have, and keep the rest. Messages name the caller; parameters that it leaves
    unread are no settings of it. TypeError is raised where no parameter, or several ones, have such a name.

    Examples:
        >>> blocks = {"linear": {"max_items": 9, "days": 7}, "popularity": {"days": 30}}
        >>> change_settings(blocks, {"max_items": 5, "popularity": {"days": 1}, "linear.days": 2}, "fit")
        >>> blocks
        {'linear': {'max_items': 5, 'days': 2}, 'popularity': {'days': 1}}
        >>> change_settings(blocks, {"days": 1}, "fit")
        Traceback (most recent call last):
        ...
        TypeError: 'days' names several settings of fit, linear.days and popularity.days: give the block, such as ...
    """
    for name, value in settings.items():
        paths = [path for path in parameter_paths(blocks) if path not in unread]
        named = [name] if name in paths else [path for path in paths if path.rpartition(".")[2] == name]
        if not named:
            last = {path.rpartition(".")[2]: path for path in paths}
            nearest = nearest_path(name, [*last])
            raise TypeError(
                f"{name!r} is not a setting of {caller}; the nearest one is {nearest!r} ({last[nearest]}). All are in "
                "docs/reference/parameters.md."
            )
        if len(named) > 1:
            parent, _, last_name = named[0].rpartition(".")
            raise TypeError(
                f"{name!r} names several settings of {caller}, {' and '.join(named)}: give the block, such as "
                f"{parent.rpartition('.')[2]}={{{last_name!r}: ...}}."
            )
        *parents, last_name = named[0].split(".")
        block = blocks
        for parent in parents:
            block = block[parent]
        before = block[last_name]
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        block[last_name] = soft_merge(before, value) if both else value
