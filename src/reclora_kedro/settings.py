"""Kedro settings of the project: configuration loading, resolvers, the catalog, sessions and hooks."""

import warnings
from functools import partial
from typing import Any

import polars as pl

from kedro_provenance.archive import give_archive
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.champion import give_champion, name_first_champion, pin_versions
from kedro_provenance.files.package_files import package_file
from kedro_provenance.hooks import RunHooks
from kedro_provenance.lock import lock_data
from kedro_provenance.session import AtomicContext, CachingConfigLoader, ResumingSession
from kedro_provenance.start import (
    choose_nodes,
    give_cell_runner,
    require_datasets,
    require_default_runner,
    require_inputs,
    require_one_origin,
    require_past_versions,
    require_storage,
    show_plan,
    try_out,
)
from kedro_provenance.terminal import show_messages
from kedro_provenance.unfinished import take_over
from reclora_kedro import extensions
from reclora_kedro.parameters import BLOCKS_OF_NAMED_ENTRIES
from reclora_kedro.pipelines.checks import checks
from reclora_kedro.serving.config import ServiceConfig

# Scoring and evaluation read every variant's artefacts by their namespaced names, such as "reclora.scores".
warnings.filterwarnings("ignore", message="One or more dataset names contain '.' characters")
# Training again, once users are forgotten, takes nodes of other steps in between.
warnings.filterwarnings("ignore", message="Namespace 'forget' is interrupted")
# PEFT 0.21 still asks transformers by the old name.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def polars_type(name: str, inner: str | None = None) -> Any:
    """A column's type in load_args: ``${polars_type:String}``, or ``${polars_type:List,String}`` for lists of it."""
    return getattr(pl, name) if inner is None else getattr(pl, name)(getattr(pl, inner))


CHAMPION_READERS = {"recommendation", "export"}
"""Pipelines that read the versions in use, once an update has named them the champion."""

DATA_CATALOG_CLASS = AtomicCatalog

CONTEXT_CLASS = AtomicContext

SESSION_CLASS = ResumingSession

HOOKS = (
    RunHooks(
        start=[
            show_messages,
            require_default_runner,
            require_datasets,
            require_storage,
            require_past_versions,
            partial(pin_versions, CHAMPION_READERS),
            show_plan,
            lock_data,
            choose_nodes,
            require_inputs,
            require_one_origin,
            partial(try_out, checks),
            take_over,
            partial(give_cell_runner, checks),
            name_first_champion,
            give_champion,
            give_archive,
        ],
        blocks={"service": ServiceConfig, "update.retriever": bool},
    ),
)

CONFIG_LOADER_CLASS = CachingConfigLoader

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "named_blocks": (*BLOCKS_OF_NAMED_ENTRIES, *extensions.named_blocks()),
    "below_base": extensions.conf_folders(),
    "default_run_env": "local",
    # An environment that overrides one key of a parameter block keeps the block's other keys.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {
        "package_file": package_file,
        "polars_type": polars_type,
    },
}
