"""Expansion of grids of settings into cells, the single runs of a study."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import ValidationError

from kedro_provenance.parameters import copied, nearest_path, parameter_paths, soft_merge, value_faults
from reclora_kedro.extensions import named_blocks
from reclora_kedro.study.config import OUTPUTS, GridConfig, SearchConfig, Settings, Step


@dataclass(frozen=True)
class Cell:
    """One run of the default pipeline and of those that rank whole catalogues, up to some outputs."""

    grid: str
    place: Mapping[str, str]  # by axis, the name of the chosen setting
    seed: int
    settings: Settings
    outputs: tuple[str, ...] = OUTPUTS["metrics"]
    pipelines: tuple[str, ...] = ("__default__",)

    def __str__(self) -> str:
        return f"{self.grid}: {describe(self.place)}, seed {self.seed}"

    def runtime_params(self, given: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, Any]:
        """Return the session's runtime parameters overridden by the cell's settings."""
        return soft_merge(session, self.parameters(given))

    def parameters(self, declared: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings as nested blocks; ``{like: name, ...}`` copies and changes an entry of `declared`.

        ValueError is raised if `declared` has no entry of that name in the same block.

        Examples:
            >>> declared = {"history": {"short": {"retrieved": {"kind": "retrieved", "k": 5}}}}
            >>> settings = {"history.short.latest": {"like": "retrieved", "kind": "recent"}, "history.seed": 7}
            >>> Cell("histories", {}, 0, settings).parameters(declared)
            {'history': {'short': {'latest': {'kind': 'recent', 'k': 5}}, 'seed': 7}}
        """
        nested: dict[str, Any] = {}
        for path, value in self.settings.items():
            *parents, name = path.split(".")
            block, entries = nested, declared
            for parent in parents:
                block, entries = block.setdefault(parent, {}), entries[parent]
            block[name] = copied(value, path, entries)
        return nested


def describe(place: Mapping[str, str]) -> str:
    """Describe a place of a grid in words.

    Examples:
        >>> describe({"rows": "128", "rank": "8"})
        'rows 128, rank 8'
    """
    return ", ".join(f"{axis} {setting}" for axis, setting in place.items())


def load_grids(
    names: str | Sequence[str], files: Mapping[str, Callable[[], Any]]
) -> dict[str, GridConfig | SearchConfig]:
    """Load grids and searches by name (`study.grid`); `files` holds a loader of each file by name.

    Examples:
        >>> load_grids("ranks", {"rank": dict})
        Traceback (most recent call last):
        ...
        ValueError: study.grid names 'ranks', but the grids are rank. The nearest one is rank.
    """
    grids: dict[str, GridConfig | SearchConfig] = {}
    for name in [names] if isinstance(names, str) else names:
        if name not in files:
            raise ValueError(
                f"study.grid names {name!r}, but the grids are {', '.join(sorted(files))}. The nearest one is "
                f"{nearest_path(name, files)}."
            )
        content = files[name]()
        kind = SearchConfig if isinstance(content, Mapping) and "search" in content else GridConfig
        try:
            grids[name] = kind.model_validate(content)
        except ValidationError as error:
            faults = value_faults(error, content, name, [f"{name}.{field}" for field in kind.model_fields])
            kind_of_file = "search" if kind is SearchConfig else "grid"
            raise ValueError(f"{name}.yml is not a {kind_of_file}:\n{faults}") from error
    return grids


def require_models(models: Sequence[str] | None, cells: Sequence[Cell], parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for models to report that no cell scores."""
    scored = {"lens": None}
    for cell in cells:
        if cell.outputs == OUTPUTS["metrics"]:
            values = soft_merge(parameters, cell.parameters(parameters))
            names = (name for name, variant in values["finetuning"]["variants"].items() if variant is not None)
            scored |= dict.fromkeys((*values["scoring"]["baselines"], "untrained", *names))
    if unknown := [model for model in models or () if model not in scored]:
        raise ValueError(
            f"study.models names {unknown[0]!r}, but the cells have {', '.join(scored)}. The nearest one is "
            f"{nearest_path(unknown[0], scored)}."
        )


def plan_cells(grids: Mapping[str, GridConfig], seeds: Sequence[int], parameters: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of each grid, one per place and seed, seed by seed so that a stopped study has whole grids.

    ValueError is raised for a grid that sets an unknown parameter, or one twice.
    """
    cells = [
        Cell(name, place, seed, settings, OUTPUTS[grid.until], pipelines_of(grid.until))
        for name, grid in grids.items()
        for seed in grid.seeds or seeds
        for place, settings in combinations(name, grid)
    ]
    for cell in cells:
        require_parameters(cell.grid, cell.settings, parameters)
    return cells


def pipelines_of(until: Step) -> tuple[str, ...]:
    return ("__default__", "candidates", "ranking") if until == "ranking" else ("__default__",)


def require_parameters(grid: str, settings: Iterable[str], parameters: Mapping[str, Any]) -> None:
    """Raise ValueError, with the nearest parameter, for a setting of a grid that is no parameter."""
    paths = sorted(parameter_paths({name: block for name, block in parameters.items() if name != "study"}))
    for path in settings:
        parent = path.rpartition(".")[0]
        if path not in paths and not (parent in named_blocks() and parent in paths):
            raise ValueError(
                f"Grid {grid} sets {path}, which is not a parameter. The nearest one is {nearest_path(path, paths)}."
            )


def combinations(name: str, grid: GridConfig) -> Iterator[tuple[dict[str, str], Settings]]:
    """Yield every choice of one setting per axis as (place, values by path); ValueError if two set one parameter."""
    for chosen in product(*(axis.items() for axis in grid.axes.values())):
        settings = dict(grid.settings)
        for axis, (setting, values) in zip(grid.axes, chosen, strict=True):
            for path, value in values.items():
                if clash := next((other for other in settings if _overlap(path, other)), None):
                    raise ValueError(
                        f"grid {name}: setting {setting!r} of axis {axis!r} sets {path}, but {clash} is set for "
                        "the same cell: set a parameter in one place."
                    )
                settings[path] = value
        yield dict(zip(grid.axes, (setting for setting, _ in chosen), strict=True)), settings


def _overlap(path: str, other: str) -> bool:
    """Whether two paths are the same, or one is a block that holds the other."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")
