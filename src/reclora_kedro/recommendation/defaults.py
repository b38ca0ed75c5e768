"""Settings of a recommender that is fitted from Python, which are those of conf/base, and keywords that change them."""

from collections.abc import Mapping
from typing import Any

from kedro_provenance.parameters import nearest_path

SOURCES = ("popularity", "item_knn", "linear")
SEED = 42  # of every random draw


def default_blocks(seed: int = SEED) -> dict[str, dict[str, Any]]:
    """Return the blocks of parameters."""
    return {
        "ingestion": {
            "interactions": {"timestamp_format": "unix_seconds"},
            "items": {
                "missing_title": "Unknown title",
                "trailing_articles": [
                    *("The", "A", "An", "La", "Le", "Les", "Il", "El", "Los", "Las", "O", "Der", "Die", "Das", "Det")
                ],
            },
            "users": None,
            "plausible_times": {"first_day": "1990-01-01", "last_day": None, "max_outside": 0.01},
            "rating_min": 1,
            "rating_max": 5,
            "max_ratings_outside": 0.01,
            "max_missing": 0.1,
            "max_share_of_one_id": 0.1,
            "label_threshold": 4,
            "duplicates": "highest_rating",
            "k_core": 0,
        },
        "history": {
            "seed": seed,
            "min_history": 5,
            "shared_clock": True,
            "ties": "strict",
            "rating_levels": None,
            "split": {"kind": "global_time", "train": 0.8, "validation": 0.1},
            "negatives": {"kind": "none", "per_positive": 1},
            "item_embedding": {
                "encoders": ["tfidf"],  # the only one without a model
                "max_tokens": 64,
                "tokens_per_batch": 2048,
                "components": 64,
            },
            "short": {},  # without prompts
            "prompt_rows": {"unit": "rows", "few_shot": 512, "validation": 100, "test": 400},
        },
        "recommendation": {
            "sources": [*SOURCES],
            "method": "validation",
            "order": "candidates",  # without a lens
            "candidates": "catalogue",
            "protocol": "live",
            "repeat": False,
            "exclude_items": [],
            "variant": None,
            "users": None,
            "validation_likes": 2000,
            "shortlist": 20,
            "top_n": 10,
            "diversity": 0.0,
            "seed": seed,
        },
        "ranking": {
            "variant": None,  # without an LLM
            "users": None,
            "rows": 2000,  # as many as validation likes: without an LLM they take seconds
            "candidates": "full",
            "lens": False,
            "baseline": None,
            "among_first": [],
            "cutoffs": [10],
            "seed": seed,
        },
        "bootstrap": {"confidence": 0.95, "seed": seed},
        "popularity": {"days": [7, 30, 90, 365]},
        "item_knn": {"popularity_powers": [0.5, 0.3, 0.7], "text_weights": [0.0, 0.3, 1.0, 3.0]},
        "linear": {
            "regularizations": [300, 30, 100, 1000, 3000],
            "recencies": [0.9, 1.0, 0.8, 0.7, 0.6],
            "text_weights": [0.8],
            "transition_weights": [0.25, 0.5, 1.0, 2.0],
            "max_items": 20000,
        },
    }


PLACES = {  # blocks of the settings that keywords change
    "ingestion": "rating_min rating_max max_ratings_outside max_missing label_threshold plausible_times duplicates "
    "k_core max_share_of_one_id",
    "ingestion.interactions": "timestamp_format drop unknown_ids",
    "ingestion.items": "missing_title title_choice trailing_articles",
    "history": "min_history ties shared_clock rating_levels split",
    "recommendation": "sources method protocol repeat exclude_items validation_likes shortlist top_n diversity",
}


def change_settings(blocks: dict[str, dict[str, Any]], settings: Mapping[str, Any]) -> None:
    """Change settings in blocks of parameters, each by its own name, or those of a source by the source's name.

    Raises:
        TypeError: there is no such setting.

    Examples:
        >>> blocks = default_blocks()
        >>> change_settings(blocks, {"method": "linear", "k_core": 5, "linear": {"max_items": 9}})
        >>> blocks["recommendation"]["method"], blocks["ingestion"]["k_core"], blocks["linear"]["max_items"]
        ('linear', 5, 9)
    """
    place_of = {name: place for place, names in PLACES.items() for name in names.split()}
    named = settings.get("sources", ())
    sources = {str(source).rpartition(".")[2] for source in (*SOURCES, *named)}
    for name, value in settings.items():
        if name in place_of:
            block: Any = blocks
            for part in place_of[name].split("."):
                block = block[part]
            block[name] = {**block[name], **value} if isinstance(block.get(name), dict) else value
        elif name in sources:
            blocks[name] = {**blocks.get(name, {}), **value}
        else:
            known = [*place_of, "seed", *sorted(sources)]
            raise TypeError(
                f"{name!r} is no setting of Recommender.fit; the nearest one is {nearest_path(name, known)!r}. All are "
                f"{', '.join(known)}."
            )
