"""Errors whose remedy is a command, which the hooks add to the message."""


class MismatchError(ValueError):
    """Stored artefacts do not fit one another, most likely because they stem from different runs.

    Args:
        message: what was found, where, and what was expected.
        entries: names of the catalog entries that have to be made again.

    Examples:
        >>> MismatchError("item_embeddings has 2 rows, but the log has 9 items.", "item_embeddings").entries
        ('item_embeddings',)
    """

    def __init__(self, message: str, *entries: str) -> None:
        super().__init__(message)
        self.entries = entries
