"""Checkpoints and finished shards go once they are of no use."""

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Node

from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset


class CheckpointHooks:
    """Empties the checkpoints that a node reads once its last output is saved: until then, a killed run needs them."""

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, which says where checkpoints are."""
        self._catalog = catalog

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Let go of what the node would have gone on from."""
        if dataset_name == node.outputs[-1]:
            for name in node.inputs:
                if isinstance(self._catalog.get(name), CheckpointStoreDataset):
                    self._catalog.load(name).clear()
