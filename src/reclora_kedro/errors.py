"""Checks that several packages share."""


def require_both_classes(likes: int, rows: int, where: str, remedy: str, least: int = 1) -> None:
    """Refuse labels of one class, which allow neither an AUC nor training.

    Args:
        likes: number of rows with label 1.
        rows: number of all rows.
        where: description of the rows for the message.
        remedy: advice for the message.
        least: minimum number of rows of each class.

    Raises:
        ValueError: a class has fewer rows.
    """
    if min(likes, rows - likes) < least:
        raise ValueError(
            f"{where}: {likes} of {rows} rows are liked (label 1); expected at least {least} liked and {least} "
            f"disliked. {remedy}"
        )
