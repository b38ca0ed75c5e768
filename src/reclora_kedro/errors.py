"""Checks whose error several rooms raise."""


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
