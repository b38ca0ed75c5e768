"""The pipelines by name. Apart from the package, which every node belongs to: an edit here makes nothing again."""

from pkgutil import iter_modules

from reclora_kedro import pipelines
from reclora_kedro.extensions import Registry

PIPELINES = Registry(
    "reclora_kedro.pipelines", tuple(module.name for module in iter_modules(pipelines.__path__) if module.ispkg)
)
"""Modules with ``create_pipeline`` and, where something is to be tried before a run, `checks` of the pipeline."""
