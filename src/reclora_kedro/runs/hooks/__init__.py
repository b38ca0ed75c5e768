"""Kedro hooks: what every run does besides its nodes, one file per concern."""

from reclora_kedro.runs.hooks.checkpoints import CheckpointHooks
from reclora_kedro.runs.hooks.errors import ErrorHooks
from reclora_kedro.runs.hooks.inputs import InputHooks
from reclora_kedro.runs.hooks.parameters import ParameterHooks
from reclora_kedro.runs.hooks.preflight import PreflightHooks
from reclora_kedro.runs.hooks.provenance import ProvenanceHooks
from reclora_kedro.runs.hooks.run_lock import RunLockHooks
from reclora_kedro.runs.hooks.run_manifest import RunManifestHooks
from reclora_kedro.runs.hooks.runner import RunnerHooks
from reclora_kedro.runs.hooks.storage import StorageHooks
from reclora_kedro.runs.hooks.study import StudyHooks
from reclora_kedro.runs.hooks.terminal import TerminalHooks
from reclora_kedro.runs.hooks.unfinished import UnfinishedRunHooks

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
