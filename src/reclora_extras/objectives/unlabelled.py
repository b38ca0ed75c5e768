"""Candidates for a user's next item at a moment, among which the LLM chooses its own responses."""

import numpy as np
import polars as pl

from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import questions
from reclora_kedro.history.taken_items import TakenItems

UNLABELLED = "unlabelled"
"""Use of the questions."""
CANDIDATES = 4
"""Questions per moment, one after the other, each of another item."""
NEIGHBOURS = 500  # training samples before and after a moment, whose items are drawn
DRAWS = 20  # for each moment, of which the first candidates that fit are taken


def draw_unlabelled(log: InteractionLog, moments: int, seed: int) -> pl.DataFrame:
    """Draw moments of the training split, each with `CANDIDATES` items that others took near it.

    The label is that of the user's later training events with the item; null without any. Row numbers follow those of
    the samples. A moment whose user has taken nearly all items is left out. ValueError is raised if the training split
    has fewer samples than the requested moments.
    """
    train = log.samples_in("train")
    if moments > train.height:
        raise ValueError(
            f"history.prompt_rows.unlabelled asks for {moments} moments, but the train split has {train.height} "
            "samples: ask for at most that many."
        )
    if not moments:
        return questions(log.samples.clear(), UNLABELLED)
    random = np.random.default_rng([seed, len(UNLABELLED)])
    places = np.sort(random.permutation(train.height)[:moments])
    near = places[:, None] + random.integers(-NEIGHBOURS, NEIGHBOURS + 1, (moments, DRAWS))
    items = train["item_index"].to_numpy()[near.clip(0, train.height - 1)]
    ends, users = (train[name].to_numpy()[places].repeat(DRAWS) for name in ("history_end", "user_index"))
    fits = ~TakenItems.from_sequences(log.sequences).until(ends, users, items.ravel()).reshape(items.shape)
    for draw in range(1, DRAWS):
        fits[:, draw] &= (items[:, :draw] != items[:, draw, None]).all(axis=1)
    drawn = np.flatnonzero(fits.sum(axis=1) >= CANDIDATES)
    first = np.argsort(~fits[drawn], axis=1, kind="stable")[:, :CANDIDATES]
    chosen = np.take_along_axis(items[drawn], first, axis=1).ravel()
    moment = train.select("user_index", "history_end", "timestamp")
    drawn_rows = moment[places[drawn].repeat(CANDIDATES)].with_columns(
        row=log.samples.height + pl.int_range(len(chosen), dtype=pl.UInt32), item_index=pl.Series(chosen)
    )
    later = train.select("user_index", "item_index", "label", at="timestamp").unique(
        ["user_index", "item_index"], keep="last", maintain_order=True
    )
    labelled = drawn_rows.join(later, on=["user_index", "item_index"], how="left", maintain_order="left")
    return questions(
        labelled.with_columns(label=pl.when(pl.col("at") >= pl.col("timestamp")).then("label")), UNLABELLED
    )


def of_one_history(prompts: pl.DataFrame) -> pl.DataFrame:
    """Return the prompts of moments whose `CANDIDATES` all stand behind the same events.

    The token budget can leave out more events before a long title. Prompts that differ there have no common text before
    their titles.

    Examples:
        >>> of_one_history(pl.DataFrame({"row": range(8), "dropped_history": [2] * 4 + [0, 1, 0, 0]}))["row"].to_list()
        [0, 1, 2, 3]
    """
    moment = pl.int_range(pl.len()) // CANDIDATES
    return prompts.filter(pl.col("dropped_history").n_unique().over(moment) == 1)
