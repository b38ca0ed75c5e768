"""Pipelines, one package each with nodes and wiring; installed packages add others."""

from pkgutil import iter_modules

from reclora_kedro.extensions import Registry

PIPELINES = Registry("reclora_kedro.pipelines", tuple(module.name for module in iter_modules(__path__) if module.ispkg))
"""Modules with ``create_pipeline`` and, where something is to be tried before a run, `checks` of the pipeline."""
