"""Kedro settings of the project: configuration loading, resolvers, the catalog, sessions and hooks."""

import os
import warnings
from typing import Any, Literal

import polars as pl
from pydantic import StrictBool

from kedro_provenance.files.package_files import package_file
from kedro_provenance.plugin import (
    AtomicCatalog,
    AtomicContext,
    CachingConfigLoader,
    ProvenanceHooks,
    ResumingSession,
)
from reclora_kedro import cells, extensions
from reclora_kedro.current_model import CurrentModelAliases
from reclora_kedro.hooks import RecommenderHooks
from reclora_kedro.pipelines.checks import checks
from reclora_kedro.pipelines.names import source_types
from reclora_kedro.serving.config import ServiceConfig

# Before torch is imported: threads that spin for long while they wait for one another take the cores that these need.
# Beside two busy processes, an epoch of the lens takes 10 s in place of 14 or more; on idle cores 3.7 s as before.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Scoring and evaluation read every variant's artefacts by their namespaced names, such as "reclora.scores".
warnings.filterwarnings("ignore", message="One or more dataset names contain '.' characters")
# Training again, once users are forgotten, takes nodes of other steps in between.
warnings.filterwarnings("ignore", message="Namespace 'forget' is interrupted")
# PEFT 0.21 still asks transformers by the old name.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def polars_type(name: str, inner: str | None = None) -> Any:
    """Resolve a polars type in load_args: ``${polars_type:String}``, or ``${polars_type:List,String}`` for lists."""
    return getattr(pl, name) if inner is None else getattr(pl, name)(getattr(pl, inner))


DATA_CATALOG_CLASS = AtomicCatalog
CONTEXT_CLASS = AtomicContext
HOOKS_OF_PACKAGES = extensions.hooks()
SESSION_CLASS = ResumingSession
BLOCKS = {
    "champion": Literal["promoted", "newest"],
    "service": ServiceConfig,
    "update.retriever": bool,
    "update.accept": StrictBool | tuple[str, ...],
    "update.reject": Literal[False] | tuple[str, ...],
    **{name: block for each in HOOKS_OF_PACKAGES for name, block in getattr(each, "BLOCKS", {}).items()},
}
"""Types of the parameters that no node reads."""
HOOKS = (
    ProvenanceHooks(
        packages=extensions.packages(),
        checks=[checks],
        check_names=True,
        blocks=BLOCKS,
        block_types=[source_types],
        late_tags=["training", "gpu", "evaluation"],
        aliases=CurrentModelAliases(readers=["recommendation", "export"]),
        stores=[cells.FOLDER],
    ),
    RecommenderHooks(),
    *HOOKS_OF_PACKAGES,
)

CONFIG_LOADER_CLASS = CachingConfigLoader

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "named_blocks": extensions.named_blocks(),
    "below_base": extensions.conf_folders(),
    "default_run_env": "local",
    # An environment that overrides one key of a parameter block keeps the block's other keys.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {
        "package_file": package_file,
        "packages_conf": extensions.packages_conf,
        "polars_type": polars_type,
    },
}
