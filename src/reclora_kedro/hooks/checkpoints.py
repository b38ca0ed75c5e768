"""Checkpoints go once they are of no use."""

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog


class CheckpointHooks:
    """Empties a variant's checkpoints once its adapter is saved: until then, a run that was killed needs them."""

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, which says where checkpoints are."""
        self._catalog = catalog

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Let go of the checkpoints of an adapter that is saved."""
        if dataset_name.endswith(".adapter"):
            self._catalog.load(f"{dataset_name.removesuffix('adapter')}checkpoints").clear()
