"""Records of results: a dictionary per row of a table, as the JSON entries of the catalog store them."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = dict[str, Any]
Records = Sequence[Mapping[str, Any]]  # rows of a table, whose columns its maker describes
