"""The registry of pipelines, in a module of its own so that an edit here makes nothing out of date."""

from pkgutil import iter_modules

from reclora_kedro import pipelines
from reclora_kedro.extensions import Registry

STEPS = tuple(module.name for module in iter_modules(pipelines.__path__) if module.ispkg)
PIPELINES = Registry("reclora_kedro.pipelines", ("lists", *STEPS, "readmit", "rollback", "similar_items"))
"""Modules with ``create_pipeline``.

Optional are `checks` of the pipeline before a run, and ``NEEDS_LLM``, whether its nodes need the extra ``llm``.
"""
