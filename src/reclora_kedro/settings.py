"""Kedro settings of the project: configuration loading, resolvers, the catalog and hooks."""

import warnings
from functools import partial

import polars as pl

from reclora_kedro.catalog import AtomicCatalog
from reclora_kedro.hooks import (
    CheckpointHooks,
    ConfiguredNamesHooks,
    ErrorHooks,
    InputHooks,
    RunLockHooks,
    RunManifestHooks,
    RunnerHooks,
    TerminalHooks,
)
from reclora_kedro.package_files import package_file

# Scoring and evaluation read every variant's artefacts by their namespaced names, such as "reclora.scores".
warnings.filterwarnings("ignore", message="One or more dataset names contain '.' characters")
# PEFT 0.21 still asks transformers by the old name.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

DATA_CATALOG_CLASS = AtomicCatalog

HOOKS = (
    ConfiguredNamesHooks(),
    RunnerHooks(),
    InputHooks(),
    RunLockHooks(),
    TerminalHooks(),
    CheckpointHooks(),
    RunManifestHooks(),
    ErrorHooks(),
)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment that overrides one key of a parameter block keeps the block's other keys.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {
        "package_file": package_file,
        "polars_type": partial(getattr, pl),  # ${polars_type:String}: a column's type in load_args
    },
}
