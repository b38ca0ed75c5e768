"""From a grid of settings to the cells that are run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import ValidationError

from kedro_provenance.parameters import copied, merge, nearest_path, parameter_paths, value_faults
from reclora_kedro.baselines import registry as baselines
from reclora_kedro.parameters import BLOCKS_OF_NAMED_ENTRIES
from reclora_kedro.study.config import REACHED, GridConfig, Settings


@dataclass(frozen=True)
class Cell:
    """One run of the default flow, or of its beginning.

    Attributes:
        grid: name of its grid.
        place: the name of its setting on each axis.
        seed: the project's seed.
        settings: values by the dotted paths of parameters.
        outputs: what it is run for.
    """

    grid: str
    place: Mapping[str, str]
    seed: int
    settings: Settings
    outputs: tuple[str, ...] = REACHED["metrics"]

    def __str__(self) -> str:
        """The cell in the words of its grid."""
        return f"{self.grid}: {describe(self.place)}, seed {self.seed}"

    @property
    def globals(self) -> dict[str, Any]:
        """Values that parameters take as ``${globals:name}``."""
        return {"seed": self.seed}

    def runtime_params(self, given: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, Any]:
        """The runtime parameters: those of the session, with the settings."""
        return merge(session, self.parameters(given))

    def parameters(self, declared: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as nested blocks, as `kedro run` takes them.

        Args:
            declared: nested blocks of the parameters that they change; ``{like: name, ...}`` is a copy of another entry
                of the same block there, with changes.

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
            block, entries = nested, declared
            for parent in parents:
                block, entries = block.setdefault(parent, {}), entries[parent]
            block[name] = copied(value, path, entries)
        return nested


def describe(place: Mapping[str, str]) -> str:
    """A place of a grid in words.

    Examples:
        >>> describe({"rows": "128", "rank": "8"})
        'rows 128, rank 8'
    """
    return ", ".join(f"{axis} {setting}" for axis, setting in place.items())


def load_grids(names: str | Sequence[str], files: Mapping[str, Callable[[], Any]]) -> dict[str, GridConfig]:
    """The grids of these names.

    Args:
        names: `study.grid`, one name or several.
        files: by name, what loads a grid's file.

    Raises:
        ValueError: there is no such grid, or its file is no grid.

    Examples:
        >>> load_grids("ranks", {"rank": dict})
        Traceback (most recent call last):
        ...
        ValueError: study.grid names 'ranks', but the grids are rank. The nearest one is rank.
    """
    grids = {}
    for name in [names] if isinstance(names, str) else names:
        if name not in files:
            raise ValueError(
                f"study.grid names {name!r}, but the grids are {', '.join(sorted(files))}. The nearest one is "
                f"{nearest_path(name, files)}."
            )
        content = files[name]()
        try:
            grids[name] = GridConfig.model_validate(content)
        except ValidationError as error:
            lines = value_faults(error, content, name, [f"{name}.{field}" for field in GridConfig.model_fields])
            raise ValueError(f"{name}.yml is no grid:\n" + "\n".join(lines)) from error
    return grids


def require_models(models: Sequence[str] | None, cells: Sequence[Cell], parameters: Mapping[str, Any]) -> None:
    """Refuse models to report that no cell scores.

    Args:
        models: `study.models`; None: all.
        cells: the cells.
        parameters: as in `plan_cells`.

    Raises:
        ValueError: there is one.
    """
    scored = {"lens": None}
    for cell in cells:
        if cell.outputs == REACHED["metrics"]:
            variants = merge(parameters, cell.parameters(parameters))["finetuning"]["variants"]
            names = (name for name, variant in variants.items() if variant is not None)
            scored |= dict.fromkeys((*baselines.scored(), "untrained", *names))
    if unknown := [model for model in models or () if model not in scored]:
        raise ValueError(
            f"study.models names {unknown[0]!r}, but the cells have {', '.join(scored)}. The nearest one is "
            f"{nearest_path(unknown[0], scored)}."
        )


def plan_cells(grids: Mapping[str, GridConfig], seeds: Sequence[int], parameters: Mapping[str, Any]) -> list[Cell]:
    """The cells of each grid, seed by seed: a study that is stopped has whole grids of the first seeds.

    Args:
        grids: by name.
        seeds: each cell is run once per seed, unless its grid names other ones.
        parameters: nested blocks of all parameters that there are.

    Raises:
        ValueError: a grid sets what is no parameter, or sets one twice.
    """
    paths = sorted(parameter_paths({name: block for name, block in parameters.items() if name != "study"}))
    cells = [
        Cell(name, place, seed, settings, REACHED[grid.until])
        for name, grid in grids.items()
        for seed in grid.seeds or seeds
        for place, settings in combinations(name, grid)
    ]
    for cell in cells:
        for path in cell.settings:
            parent = path.rpartition(".")[0]
            if path not in paths and not (parent in BLOCKS_OF_NAMED_ENTRIES and parent in paths):
                raise ValueError(
                    f"Grid {cell.grid} sets {path}, which is no parameter. The nearest one is "
                    f"{nearest_path(path, paths)}."
                )
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
                        f"grid {name}: setting {setting!r} of axis {axis!r} sets {path}, but {clash} is set for "
                        "the same cell: set a parameter in one place."
                    )
                settings[path] = value
        yield dict(zip(grid.axes, (setting for setting, _ in chosen), strict=True)), settings


def _overlap(path: str, other: str) -> bool:
    """Whether two paths are the same, or one is a block that holds the other."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")
