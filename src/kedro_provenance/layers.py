"""Layers of catalog entries, as kedro-viz shows them."""

import re
from collections.abc import Mapping
from typing import Any

from kedro_provenance.datasets import location
from kedro_provenance.project import is_alias

RAW = "raw"
LAYERS = (RAW, "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting")
FOLDER = re.compile(rf"(?:^|/)0\d_({'|'.join(LAYERS)})/")  # of the layers of Kedro's data engineering convention


def state_layer(dataset: Any, name: str) -> None:
    """Write the layer of an entry into its dataset's metadata, where kedro-viz looks for it."""
    metadata = getattr(dataset, "metadata", None) or {}
    shown = metadata.get("kedro-viz") or {}
    dataset.metadata = metadata | {"kedro-viz": shown | {"layer": layer_of(name, location(dataset), metadata)}}


def layer_of(name: str, address: str, metadata: Mapping[str, Any] | None = None) -> str:
    """Return the layer of a catalog entry: the one that it states or of its folder, else ``raw``, as of aliases.

    Examples:
        >>> layer_of("items", "s3://shop/03_primary/items.parquet")
        'primary'
        >>> layer_of("rates", "https://example.org/rates.csv"), layer_of("a", "", {"kedro-viz": {"layer": "feature"}})
        ('raw', 'feature')
    """
    if is_alias(name):
        return RAW
    stated = ((metadata or {}).get("kedro-viz") or {}).get("layer")
    return str(stated or (FOLDER.findall(address) or [RAW])[-1])
