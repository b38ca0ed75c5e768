"""Settings that suit a kind of log: `kedro new-log` writes them, and `Recommender.fit` takes them."""

from pathlib import Path

from reclora_kedro.history.config import SENTENCE_ENCODER, default_encoders
from reclora_kedro.history.sequences import MOST_LEVELS


def suiting_settings(*, is_rated: bool, has_marks: bool, is_titled: bool, has_times: bool, levels: int) -> list[str]:
    """Return blocks of parameters, as YAML, for a log with ratings, clicks or the like (marks), or likes alone.

    Its times compare between users, or are places in a user's history; `levels` are distinct values of its ratings.
    """
    is_liked = not (is_rated or has_marks)
    suits = {
        "purchases": is_liked and is_titled,
        "purchases_without_titles": is_liked and not is_titled,
        "impressions": has_marks,
        "without_titles": not (is_liked or is_titled),
        "without_times": not has_times,
        "fine_ratings": levels > MOST_LEVELS,
    }
    texts = [settings_for(name) for name, is_fit in suits.items() if is_fit]
    if SENTENCE_ENCODER in default_encoders():
        return texts
    return [text.replace(f"[tfidf, {SENTENCE_ENCODER}]", "[tfidf]") for text in texts]


def settings_for(kind: str) -> str:
    """Return the YAML of settings that suit a kind of log, such as one without times."""
    return (Path(__file__).parent / "suiting" / f"{kind}.yml").read_text(encoding="utf-8")
