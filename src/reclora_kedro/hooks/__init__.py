"""Kedro hooks: what every run does besides its nodes, one file a concern."""

from reclora_kedro.hooks.configured_names import ConfiguredNamesHooks
from reclora_kedro.hooks.errors import ErrorHooks
from reclora_kedro.hooks.run_manifest import RunManifestHooks

__all__ = ["ConfiguredNamesHooks", "ErrorHooks", "RunManifestHooks"]
