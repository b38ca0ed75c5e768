"""Windows of time at the end of a log, and models that are fitted before each and know none of it.

Before each window, all sources are fitted anew to the events before it, with the settings that likes of the first
window have chosen, and the second stage learns from the likes of the window before. The first window only teaches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from kedro_provenance.errors import Fault, Parameter
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.popularity import SECONDS_PER_DAY
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.splits import split_of
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation.chosen import Choice, Configs, SettingsOfSources, settings_of_sources
from reclora_kedro.recommendation.config import BacktestConfig, RecommendationConfig
from reclora_kedro.recommendation.item_ranks import draw
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.second_stage import SecondStage

if TYPE_CHECKING:
    from reclora_kedro.candidates.next_item.base import Retriever

Train = Callable[[InteractionLog], "Retriever"]  # trains a retriever on the training split of a log


WINDOWS = Parameter("backtest.windows")


@dataclass(frozen=True, eq=False)
class Window:
    """A window whose likes are ranked by models that were fitted before it."""

    number: int  # 0 for the one that teaches, from 1 on for those that test
    start: int  # its first second
    end: int  # the first second after it
    training: Training  # the log until its end, whose events before its start are known
    recommender: FittedRecommender  # fitted to these
    likes: pl.DataFrame  # of the window, in its test split


def bounds_of_windows(seconds: np.ndarray, config: BacktestConfig) -> list[int]:
    """Return the first second of each window, two that come before the tested ones included, and that after the log.

    Fault is raised for a log that is too short, or whose times are too coarse.

    Examples:
        >>> config = BacktestConfig(windows=2, share=0.5, days=None, likes=None)
        >>> bounds_of_windows(np.arange(100), config)
        [0, 25, 50, 75, 100]
        >>> bounds_of_windows(np.arange(100) * 86_400, config.model_copy(update={"days": 10}))[1] // 86_400
        69
    """
    seconds, count = np.sort(seconds), config.windows + 2
    after, back = int(seconds[-1]) + 1, np.arange(count, 0, -1)
    if config.days is None:
        places = np.round(len(seconds) * (1 - config.share * back / config.windows)).astype(np.int64)
        starts = seconds[places.clip(0)]
        is_longer, parameter, value = places[0] < 0, "share", config.share
    else:
        starts = after - (back * config.days * SECONDS_PER_DAY).astype(np.int64)
        is_longer, parameter, value = starts[0] < seconds[0], "days", config.days
    if is_longer:
        raise Fault(
            Parameter(f"backtest.{parameter}"),
            f"is {value:g}, but {count} such windows (two before the {config.windows} test windows) are longer than "
            "the log",
            advice=("Lower it, or ", WINDOWS),
        )
    bounds = [*starts.tolist(), after]
    if any(end <= start for start, end in pairwise(bounds)):
        found = f"is {config.windows}, but too many events share a second to make so many windows"
        raise Fault(WINDOWS, found, advice=("Lower it, or raise ", Parameter("backtest.share")))
    return bounds


def log_until(log: InteractionLog, validates: int, tests: int, end: int) -> InteractionLog:
    """Return the log of the events before a second, `end`, whose likes train, validate or test by their time.

    Items whose first event is later are left out, and so have new indices.
    """
    events = log.sequences
    kept = events.timestamp < end
    is_later = np.zeros(log.items.height, dtype=bool)
    is_later[events.item_index[~kept]] = True
    is_later[events.item_index[kept]] = False
    index = (~is_later).cumsum(dtype=np.int32) - 1
    before = np.append(0, kept.cumsum())
    sequences = events.where(kept, item_index=index[events.item_index[kept]].astype(np.int32))

    def moved(rows: pl.DataFrame) -> pl.DataFrame:
        likes = rows.filter((pl.col("label") == 1) & (pl.col("timestamp") < end)).drop("row")
        return likes.with_columns(
            item_index=pl.Series(index[likes["item_index"].to_numpy()], dtype=pl.Int32),
            event=pl.Series(before[likes["event"].to_numpy()]),
            history_end=pl.Series(before[likes["history_end"].to_numpy()]),
            split=split_of(pl.col("timestamp"), validates, tests),
        )

    samples = moved(log.samples).with_row_index("row")
    repeats = None if log.repeats is None else moved(log.repeats).with_row_index("row", samples.height)
    return log.of_items(~is_later, sequences=sequences, samples=samples, repeats=repeats)


def windows_of(
    log: InteractionLog,
    config: BacktestConfig,
    recommendation: RecommendationConfig,
    configs: Configs,
    train: Train | None = None,
) -> Iterator[Window]:
    """Yield the windows with what was fitted before each, the one that teaches first.

    Popularity and facts of items count events until each like's own moment, as a service that is updated at once would.
    Fault is raised for a log without times or too short, and for a window with likes of fewer than two users.
    """
    if not log.shared_clock:
        raise Fault(
            Parameter("history.shared_clock"),
            "is false, because times of users cannot be compared",
            "a backtest divides the log by time",
            "Compare methods with `kedro run --pipelines ranking`",
        )
    bounds = bounds_of_windows(log.sequences.timestamp, config)
    sources, stage = SettingsOfSources(), SecondStage()
    for number, (validates, start, end) in enumerate(zip(bounds, bounds[1:], bounds[2:], strict=False)):
        until_end = log_until(log, validates, start, end)
        is_training_event = until_end.sequences.timestamp < start
        training = Training(until_end, is_training_event, None if train is None else train(until_end))
        rules = recommendation.rules_of(until_end.items)
        likes = draw_positives(until_end, "test", None, recommendation.seed, rules)
        if likes["user_index"].n_unique() < 2:
            raise Fault(
                f"The window from {day(start)} to {day(end - 1)}",
                f"has {likes['user_index'].n_unique()} user(s) with likes of items that are new to them",
                "2 are needed",
                ("Lower ", WINDOWS, " or ", Parameter("history.min_history"), ", or raise `backtest.share` or days"),
            )
        if number == 0:
            of_settings = draw(likes, recommendation.validation_likes, recommendation.seed)
            sources = settings_of_sources(recommendation, configs, training, of_settings, live=True)
        choice = Choice(kind="fusion", order="candidates", sources=sources, stage=stage)
        recommender = FittedRecommender.from_choice(training, choice, recommendation).as_of_each_moment(training)
        yield Window(number, start, end, training, recommender, likes)
        if number < config.windows:
            teaching = draw(likes, recommendation.teaching_likes, recommendation.seed)
            moments, target = recommender.moments(teaching), teaching["item_index"].to_numpy()
            stage = SecondStage.learned(recommender.reader, moments, target, recommendation.seed)


def day(second: int) -> str:
    """Return the day of a second, such as 2013-09-01."""
    return str(np.datetime64(second, "s").astype("datetime64[D]"))
