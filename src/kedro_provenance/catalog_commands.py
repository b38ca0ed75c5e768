"""Kedro's commands on the catalog, such as ``kedro catalog resolve-patterns``."""

from collections.abc import Mapping
from typing import Any

from kedro.framework.context import CatalogCommandsMixin
from kedro.pipeline import Pipeline
from pydantic_core import to_jsonable_python


class CatalogCommands(CatalogCommandsMixin):
    """The commands of Kedro, with output that is plain YAML."""

    def resolve_patterns(self: Any, pipelines: list[Pipeline] | None = None) -> dict[str, Any]:
        """Return the configuration of each dataset of the catalog and of pipelines, see Kedro's own method."""
        return {
            name: plain_configuration(config)
            for name, config in CatalogCommandsMixin.resolve_patterns(self, pipelines).items()
        }


def plain_configuration(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a dataset as in a catalog file, from Kedro's, which contains a dataset's objects.

    Examples:
        >>> from kedro.io import Version
        >>> made = {"args": (), "kwargs": {"filepath": "a.json", "version": Version(None, "2026")}}
        >>> plain_configuration({"type": "json.JSONDataset"} | made)
        {'type': 'json.JSONDataset', 'filepath': 'a.json', 'versioned': True}
    """
    given = {**config, **config.get("kwargs", {})}
    if "version" in given:
        given["versioned"] = True
    kept = {name: value for name, value in given.items() if name not in ("args", "kwargs", "version", "data")}
    return to_jsonable_python(kept, fallback=str)
