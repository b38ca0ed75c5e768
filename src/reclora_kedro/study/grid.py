"""From a grid of settings to the cells that are run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from reclora_kedro.parameters import NAMED, nearest_path, parameter_paths
from reclora_kedro.study.config import GridConfig, Settings, StudyConfig

# A cell runs the default flow; the parameters of a study itself are none of it.
OTHERS = ("study",)


@dataclass(frozen=True)
class Cell:
    """One run of the default flow.

    Attributes:
        grid: name of its grid.
        place: the name of its setting on each axis.
        seed: the project's seed.
        settings: values by the dotted paths of parameters.
    """

    grid: str
    place: Mapping[str, str]
    seed: int
    settings: Settings

    def __str__(self) -> str:
        """The cell in the words of its grid."""
        place = ", ".join(f"{axis} {setting}" for axis, setting in self.place.items())
        return f"{self.grid}: {place}, seed {self.seed}"

    def parameters(self, there: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as nested blocks, as `kedro run` takes them.

        Args:
            there: nested blocks of the parameters that they change; ``{like: name, ...}`` is a copy of another entry of
                the same block there, with changes.

        Raises:
            ValueError: there is no entry of that name.

        Examples:
            >>> there = {"history": {"short": {"retrieved": {"kind": "retrieved", "k": 5}}}}
            >>> settings = {"history.short.latest": {"like": "retrieved", "kind": "recent"}, "history.seed": 7}
            >>> Cell("histories", {}, 0, settings).parameters(there)
            {'history': {'short': {'latest': {'kind': 'recent', 'k': 5}}, 'seed': 7}}
        """
        nested: dict[str, Any] = {}
        for path, value in self.settings.items():
            *parents, name = path.split(".")
            block, entries = nested, there
            for parent in parents:
                block, entries = block.setdefault(parent, {}), entries[parent]
            if isinstance(value, Mapping) and "like" in value:
                like, changes = value["like"], {key: of_key for key, of_key in value.items() if key != "like"}
                if not isinstance(entries.get(like), Mapping):
                    raise ValueError(f"{path} is like {like!r}, but {'.'.join(parents)} has {', '.join(entries)}.")
                value = merge(entries[like], changes)
            block[name] = value
        return nested


def merge(block: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A block with changes, which may be blocks within it.

    Examples:
        >>> merge({"history": "retrieved", "adapter": {"r": 8, "lora_alpha": 16}}, {"adapter": {"r": 4}})
        {'history': 'retrieved', 'adapter': {'r': 4, 'lora_alpha': 16}}
    """
    merged = dict(block)
    for name, value in changes.items():
        own = merged.get(name)
        merged[name] = merge(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else value
    return merged


def plan_cells(study: StudyConfig, parameters: Mapping[str, Any]) -> list[Cell]:
    """The cells of the chosen grids, seed by seed: a study that is stopped has whole grids of the first seeds.

    Args:
        study: grids and seeds.
        parameters: nested blocks of all parameters that there are.

    Raises:
        ValueError: there is no such grid, or it sets what is no parameter, or sets one twice.
    """
    names = [study.grid] if isinstance(study.grid, str) else study.grid
    known = sorted(parameter_paths({name: block for name, block in parameters.items() if name not in OTHERS}))
    cells = []
    for name in names:
        grid = study.grids.get(name)
        if grid is None:
            there = ", ".join(name for name, grid in study.grids.items() if grid is not None)
            raise ValueError(f"study.grid names {name!r}, but study.grids has {there}: choose one of these.")
        cells += [
            Cell(name, place, seed, settings) for seed in study.seeds for place, settings in combinations(name, grid)
        ]
    for cell in cells:
        for path in cell.settings:
            check_path(path, known, cell.grid)
    return cells


def combinations(name: str, grid: GridConfig) -> Iterator[tuple[dict[str, str], Settings]]:
    """Every choice of one setting per axis, with the values of all of them.

    Raises:
        ValueError: two axes, or an axis and the settings of all cells, set the same parameter.
    """
    for chosen in product(*(axis.items() for axis in grid.axes.values())):
        settings = dict(grid.settings)
        for axis, (setting, values) in zip(grid.axes, chosen, strict=True):
            for path, value in values.items():
                if clash := next((other for other in settings if _overlap(path, other)), None):
                    raise ValueError(
                        f"study.grids.{name}: setting {setting!r} of axis {axis!r} sets {path}, but {clash} is set for "
                        "the same cell: set a parameter in one place."
                    )
                settings[path] = value
        yield dict(zip(grid.axes, (setting for setting, _ in chosen), strict=True)), settings


def check_path(path: str, known: list[str], grid: str) -> None:
    """Refuse a path that is no parameter's.

    Raises:
        ValueError: it is none; the message names the nearest one.
    """
    parent = path.rpartition(".")[0]
    if path not in known and not (parent in NAMED and parent in known):
        raise ValueError(
            f"study.grids.{grid} sets {path}, which is no parameter. The nearest one is {nearest_path(path, known)}."
        )


def _overlap(path: str, other: str) -> bool:
    """Whether two paths are the same, or one is a block that holds the other."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")
