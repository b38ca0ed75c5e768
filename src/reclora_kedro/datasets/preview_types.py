"""Types of previews, whose names tell kedro-viz how to render the result of `preview`.

kedro-datasets defines them in a private module, and kedro-viz knows no others.
"""

from kedro_datasets._typing import HTMLPreview, JSONPreview, TablePreview

__all__ = ["HTMLPreview", "JSONPreview", "TablePreview"]
