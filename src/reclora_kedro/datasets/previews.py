"""Datasets of other packages, with previews of their contents for kedro-viz.

The names of the types of previews tell it how to render them; it knows those of this private module only.
"""

import json
from html import escape

from kedro_datasets._typing import HTMLPreview, JSONPreview, TablePreview
from kedro_datasets.json import JSONDataset
from kedro_datasets.polars import EagerPolarsDataset

__all__ = ["HTMLPreview", "JSONPreview", "ListsDataset", "PromptsDataset", "RecordsDataset", "TablePreview"]


class RecordsDataset(JSONDataset):
    """A JSON file with a list of records, previewed as a table."""

    def preview(self, nrows: int = 40) -> TablePreview:
        import pandas as pd

        return TablePreview(pd.DataFrame(self.load()).head(nrows).to_dict(orient="split"))


class ListsDataset(EagerPolarsDataset):
    """A table with columns of lists, which are previewed as JSON."""

    def preview(self, nrows: int = 5) -> TablePreview:
        rows = self.load().head(nrows)
        shown = [[json.dumps(cell) if isinstance(cell, list) else cell for cell in row] for row in rows.rows()]
        return TablePreview({"columns": rows.columns, "index": [*range(rows.height)], "data": shown})


class PromptsDataset(EagerPolarsDataset):
    """A table of prompts, previewed by the text of the first one."""

    def preview(self) -> HTMLPreview:
        return HTMLPreview(f"<pre>{escape(self.load()['prompt'].first() or '')}</pre>")
