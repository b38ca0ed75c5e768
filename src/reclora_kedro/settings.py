"""Kedro settings of the project: configuration loading, resolvers, the catalog, sessions and hooks."""

import warnings
from typing import Any

import polars as pl

from reclora_kedro.files.package_files import package_file
from reclora_kedro.runs.catalog import AtomicCatalog
from reclora_kedro.runs.hooks import (
    CheckpointHooks,
    ErrorHooks,
    InputHooks,
    ParameterHooks,
    PreflightHooks,
    ProvenanceHooks,
    RunLockHooks,
    RunManifestHooks,
    RunnerHooks,
    StorageHooks,
    StudyHooks,
    TerminalHooks,
    UnfinishedRunHooks,
)
from reclora_kedro.runs.session import AtomicContext, ResumingSession

# Scoring and evaluation read every variant's artefacts by their namespaced names, such as "reclora.scores".
warnings.filterwarnings("ignore", message="One or more dataset names contain '.' characters")
# PEFT 0.21 still asks transformers by the old name.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def polars_type(name: str, of: str | None = None) -> Any:
    """A column's type in load_args: ``${polars_type:String}``, or ``${polars_type:List,String}`` for lists of it."""
    return getattr(pl, name) if of is None else getattr(pl, name)(getattr(pl, of))


DATA_CATALOG_CLASS = AtomicCatalog

CONTEXT_CLASS = AtomicContext

SESSION_CLASS = ResumingSession

HOOKS = (  # of those that come first, Kedro calls the last one first
    ParameterHooks(),
    InputHooks(),
    PreflightHooks(),
    ProvenanceHooks(),
    RunLockHooks(),
    UnfinishedRunHooks(),
    TerminalHooks(),
    RunnerHooks(),
    StorageHooks(),
    CheckpointHooks(),
    RunManifestHooks(),
    StudyHooks(),
    ErrorHooks(),
)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment that overrides one key of a parameter block keeps the block's other keys.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {
        "package_file": package_file,
        "polars_type": polars_type,
    },
}
