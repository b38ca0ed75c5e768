"""Pairs of texts of items that users liked one soon after the other, for tuning an item encoder."""

from dataclasses import dataclass

import numpy as np

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.sequences import user_of_events


@dataclass(frozen=True)
class TextPairs:
    """Distinct texts of items, and pairs of their indices, int64, (n, 2); the two texts of a pair differ."""

    texts: list[str]
    training: np.ndarray  # both likes are events of the training split
    validation: np.ndarray  # the earlier like is one of the training split, the later one of the validation split


def text_pairs(log: InteractionLog, window: int) -> TextPairs:
    """Return pairs of a user's likes at most `window` likes apart, with texts; raise ValueError if a split has none."""
    texts = describe_items(log.items)
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    trains, validates = log.training_events(), np.zeros(len(log.sequences.label), dtype=bool)
    validates[log.samples_in("validation")["event"].drop_nulls().to_numpy()] = True

    text_of_item = np.array([places[text] if text else -1 for text in texts])
    text = text_of_item[log.sequences.item_index]
    likes = np.flatnonzero((trains | validates) & (log.sequences.label == 1) & (text >= 0))
    user, text, trains = user_of_events(log.sequences.offsets)[likes], text[likes], trains[likes]
    pairs: dict[str, list[np.ndarray]] = {"training": [], "validation": []}
    for apart in range(1, window + 1):
        earlier, later = slice(None, -apart), slice(apart, None)
        near = (user[earlier] == user[later]) & (text[earlier] != text[later]) & trains[earlier]
        both = np.stack([text[earlier], text[later]], axis=1)
        pairs["training"].append(both[near & trains[later]])
        pairs["validation"].append(both[near & ~trains[later]])
    joined = {split: np.concatenate(parts) for split, parts in pairs.items()}
    for split, parts in joined.items():
        if not len(parts):
            encoders = Parameter("history.item_embedding.encoders")
            raise Fault(
                f"The {split} split",
                "holds no pair of items to tune an encoder on",
                f"{len(np.unique(user))} users like {len(np.unique(text))} different texts until then, but none likes "
                f"two within {window} likes of each other, the earlier one in the training split",
                ("Change ", Parameter("history.split"), ", or embed items by an untuned encoder, with ", encoders),
            )
    return TextPairs(list(places), **joined)
