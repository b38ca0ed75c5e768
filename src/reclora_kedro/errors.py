"""Errors that several rooms raise; the Kedro side adds the command to type next."""


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


def require_both_classes(likes: int, rows: int, where: str, remedy: str, least: int = 1) -> None:
    """Refuse labels of one class, for which there is neither an AUC nor anything to learn.

    Args:
        likes: number of rows with label 1.
        rows: number of all rows.
        where: what the rows are, for the message.
        remedy: what may help, for the message.
        least: rows that there must be of each class.

    Raises:
        ValueError: there are fewer of a class.
    """
    if min(likes, rows - likes) < least:
        raise ValueError(
            f"{where}: {likes} of {rows} rows are liked (label 1); expected at least {least} liked and {least} "
            f"disliked. {remedy}"
        )
