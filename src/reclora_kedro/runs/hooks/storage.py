"""An object storage that a run uses must be there before it begins."""

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from reclora_kedro.files.storage import StorageError, is_remote, require_bucket, storage_options
from reclora_kedro.runs.catalog import ADDRESSES, AtomicCatalog
from reclora_kedro.runs.hooks.refusal import RunRefusedError


class StorageHooks:
    """Refuses a run whose object storage cannot be reached or listed, or has no such bucket."""

    @hook_impl(tryfirst=True)  # before those that look for what is stored
    def before_pipeline_run(self, pipeline: Pipeline, catalog: AtomicCatalog) -> None:
        """List one folder of each bucket.

        Raises:
            RunRefusedError: one cannot be listed.
        """
        found: dict[str, tuple[str, str, dict[str, Any]]] = {}
        for name in sorted(pipeline.datasets() | {"run_manifest"}):
            entry = catalog.config_resolver.resolve_pattern(name)
            for address in (entry[key] for key in ADDRESSES if is_remote(entry.get(key))):
                bucket = "/".join(address.split("/")[:3])
                found.setdefault(bucket, (name, address, storage_options(entry)))
        faults = []
        for name, address, options in found.values():
            try:
                require_bucket(address, options)
            except StorageError as error:
                faults.append(f"- {name}: {error}")
        if faults:
            raise RunRefusedError("\n".join(["This run's storage cannot be used. Nothing was written.", *faults]))
