"""The layers of Kedro's data engineering convention, by which kedro-viz sorts what it shows."""

import re
from collections.abc import Mapping
from typing import Any

from kedro_provenance.aliases import is_alias

RAW = "raw"
LAYERS = (RAW, "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting")
FOLDER = re.compile(rf"(?:^|/)0\d_({'|'.join(LAYERS)})/")


def layer_of(name: str, address: str, metadata: Mapping[str, Any] | None = None) -> str:
    """Return the layer of a catalog entry: the one that it states, else that of its folder, else ``raw``.

    What a run takes from before it by an alias, such as ``production.model``, is raw: its step leaves newer versions.

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
