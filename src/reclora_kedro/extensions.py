"""Extensions of the recommender: entry points of installed packages, and modules named by dotted paths.

Only the metadata of entry points are read, see docs/guides/extend.md; a package's code is imported when it is used.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import distributions, entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, TypeVar

from pydantic import model_validator

from kedro_provenance.parameters import Block, nearest_path

CONF_GROUP = "reclora_kedro.conf"
HOOKS_GROUP = "reclora_kedro.kedro_hooks"  # no module has this name: code that names one counts as importing it
NAMED_BLOCKS_GROUP = "reclora_kedro.named_blocks"
DOTTED_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")

T = TypeVar("T")


@cache
def installed(group: str) -> dict[str, str]:
    """Return the modules of a group of entry points by name."""
    return {point.name: point.value for point in sorted(entry_points(group=group))}


def packages() -> list[str]:
    """Return the packages that extend the recommender, by any entry point."""
    points = (point for distribution in distributions() for point in distribution.entry_points)
    return sorted({point.module.partition(".")[0] for point in points if point.group.startswith("reclora_kedro.")})


def named_blocks() -> tuple[str, ...]:
    """Return the paths of parameter blocks whose entries have user-chosen names, also those of packages."""
    return ("history.short", "finetuning.variants", *installed(NAMED_BLOCKS_GROUP))


def conf_folders() -> list[Path]:
    """Return the folders ``conf/`` of the packages in the group ``reclora_kedro.conf``.

    Values of conf/base, of a run's environment and of runtime parameters override theirs.
    """
    return [folder_of(package) / "conf" for package in installed(CONF_GROUP).values()]


def packages_conf(folder: str) -> dict[str, dict[str, str]]:
    """Resolve ``${packages_conf:...}`` to a folder's paths; raise ModuleNotFoundError if a package is missing."""
    return {
        name: {"path": str(conf / folder)} for name, conf in zip(installed(CONF_GROUP), conf_folders(), strict=True)
    }


class ExtensionBlock(Block):
    """A parameter block whose fields conf/base does not list; the refusal of a key names the nearest field."""

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_keys(cls, block: Any) -> Any:
        unknown = [str(name) for name in block if name not in cls.model_fields] if isinstance(block, Mapping) else []
        if unknown:
            nearest = nearest_path(unknown[0], cls.model_fields)
            raise ValueError(f"{unknown[0]} is not a parameter. The nearest one is {nearest}")
        return block


def hooks() -> list[Any]:
    """Return the Kedro hooks of packages: objects of the classes in the group ``reclora_kedro.kedro_hooks``.

    A class may have ``BLOCKS``, the types of parameter blocks that it reads and no node does, by name.
    """
    return [kind() for _, kind in entry_point_objects(HOOKS_GROUP)]


def entry_point_objects(group: str) -> list[tuple[str, Any]]:
    """Return the names and objects of a group of entry points, and import their packages."""
    return [(point.name, point.load()) for point in sorted(entry_points(group=group))]


def folder_of(package: str) -> Path:
    """Return the folder of a package without importing it, or raise ModuleNotFoundError."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"An entry point names the package {package}, which is not installed.", name=package)
    return Path(spec.submodule_search_locations[0])


@dataclass(frozen=True)
class Registry:
    """Modules of one kind by name: the recommender's own, those of installed packages, and any by dotted path.

    Examples:
        >>> models = Registry("reclora_kedro.lens.models")
        >>> models.module_name("sim"), models.module_name("reclora_kedro.lens.layers")
        ('reclora_kedro.lens.models.sim', 'reclora_kedro.lens.layers')
    """

    group: str  # package of the recommender's own modules, and group of the entry points that add others
    own: tuple[str, ...] | None = None  # the recommender's own modules; None for all of the package but the helpers
    helpers: tuple[str, ...] = ()  # modules of the package that are none of the kind

    def modules(self) -> dict[str, str]:
        """Full names of the modules by name; entry points do not replace own modules."""
        own = self.own
        if own is None:
            names = (module.name for module in iter_modules([str(folder_of(self.group))]))
            own = tuple(name for name in names if name not in self.helpers)
        modules = installed(self.group) | {name: f"{self.group}.{name}" for name in own}
        return dict(sorted(modules.items()))

    def module_name(self, name: str) -> str:
        """Return a module's full name by its name or dotted path; raise ValueError if there is none."""
        modules = self.modules()
        if name in modules:
            return modules[name]
        if DOTTED_PATH.fullmatch(name):
            try:
                if find_spec(name):
                    return name
            except ModuleNotFoundError as error:
                raise ValueError(f"{name} cannot be imported: {error}; install its package, or correct it") from error
            raise ValueError(f"{name} cannot be imported: the package has no such module; correct it")
        raise ValueError(
            f"{name!r} is unknown: choose one of {', '.join(modules)}, or give the dotted path of a module of yours; "
            f"the nearest one is {nearest_path(name, modules)}"
        )

    def require(self, name: str) -> str:
        """Return the name if there is such a module, see `module_name`; a validator of pydantic fields."""
        self.module_name(name)
        return name

    def load(self, name: str) -> ModuleType:
        """Import a module by its name or dotted path, see `module_name`."""
        return import_module(self.module_name(name))

    def summary(self, name: str) -> str:
        """Return the first line of a module's docstring without importing the module."""
        spec = find_spec(self.module_name(name))
        assert spec is not None
        assert spec.origin is not None
        text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        return text.partition("\n")[0]

    def load_class(self, name: str, kind: type[T]) -> type[T]:
        """Return the only class of a kind that a module defines; raise ValueError if there is no such one."""
        module = self.load(name)
        own = (part for part in vars(module).values() if getattr(part, "__module__", None) == module.__name__)
        classes = [part for part in own if isinstance(part, type) and issubclass(part, kind)]
        if len(classes) != 1:
            defined = ", ".join(part.__name__ for part in classes) or "none"
            raise ValueError(
                f"{module.__name__} must define one subclass of {kind.__module__}.{kind.__name__}, but defines "
                f"{defined}"
            )
        return classes[0]
