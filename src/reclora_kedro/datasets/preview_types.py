"""Types of previews, by whose names kedro-viz knows how to show what `preview` returns.

kedro-datasets keeps them in a private module, and kedro-viz has no others.
"""

from kedro_datasets._typing import HTMLPreview, JSONPreview, TablePreview

__all__ = ["HTMLPreview", "JSONPreview", "TablePreview"]
