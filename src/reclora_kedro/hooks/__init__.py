"""Kedro hooks: what every run does besides its nodes, one file per concern."""

from reclora_kedro.hooks.checkpoints import CheckpointHooks
from reclora_kedro.hooks.errors import ErrorHooks
from reclora_kedro.hooks.inputs import InputHooks
from reclora_kedro.hooks.parameters import ParameterHooks
from reclora_kedro.hooks.preflight import PreflightHooks
from reclora_kedro.hooks.provenance import ProvenanceHooks
from reclora_kedro.hooks.run_lock import RunLockHooks
from reclora_kedro.hooks.run_manifest import RunManifestHooks
from reclora_kedro.hooks.runner import RunnerHooks
from reclora_kedro.hooks.storage import StorageHooks
from reclora_kedro.hooks.study import StudyHooks
from reclora_kedro.hooks.terminal import TerminalHooks
from reclora_kedro.hooks.unfinished import UnfinishedRunHooks

__all__ = [
    "CheckpointHooks",
    "ErrorHooks",
    "InputHooks",
    "ParameterHooks",
    "PreflightHooks",
    "ProvenanceHooks",
    "RunLockHooks",
    "RunManifestHooks",
    "RunnerHooks",
    "StorageHooks",
    "StudyHooks",
    "TerminalHooks",
    "UnfinishedRunHooks",
]
