"""Checks that several packages share."""


def require_both_classes(likes: int, rows: int, where: str, remedy: str, least: int = 1) -> None:
    """Raise ValueError, which says where and gives a remedy, if a class of labels has fewer than `least` rows."""
    if min(likes, rows - likes) < least:
        raise ValueError(
            f"{where}: {likes} of {rows} rows are liked (label 1); expected at least {least} liked and {least} "
            f"disliked. {remedy}"
        )
