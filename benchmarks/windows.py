"""Updates in sliding windows over time, as RecNextEval has them (Ng et al., arXiv 2604.13665): the last six weeks.

    make bench-windows
    python benchmarks/windows.py --log movielens-100k --windows 4 --seeds 1

At a window's first second, each policy of `lifelong` recommends ten items to everyone who likes an item in the window
that is new to them, and scores all rows of the window; nothing of the window is known. Then its events are released,
and the lenses are updated. Items of the whole catalogue are recommended as `kedro run --pipelines recommendation` does
by its ranker: trees, trained once on validation likes, order the best items by popularity and by item neighbours, and
read the lens. Both sources also stand alone.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import plotly.graph_objects as go
import polars as pl
from lifelong import FROZEN, LOGS, POLICIES, as_of, blocks_of, read_tables, update
from plotly.subplots import make_subplots
from reclora_kedro.baselines.neighbours import ItemNeighbours, ItemNeighboursConfig
from reclora_kedro.baselines.popularity import SECONDS_PER_DAY, Popularity
from reclora_kedro.recommendation.candidates import best_of_each_user
from reclora_kedro.recommendation.sources import lens_scorer
from results import Records, publish
from running import Project, open_project
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from reclora_kedro.baselines import neighbours, popularity
from reclora_kedro.baselines.base import Scorer
from reclora_kedro.evaluation.figures import TEMPLATE
from reclora_kedro.history.item_facts import ItemFacts
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.states import LensReader
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.features import LENS, CandidateReader
from reclora_kedro.recommendation.item_ranks import candidate_pairs
from reclora_kedro.recommendation.second_stage import SecondStage

DAYS, WINDOWS, SEEDS = 7, 6, 3  # days of a window, windows at the end of the log, and seeds of the lenses
K = 10  # items that are recommended
POPULAR, NEIGHBOURS = "popular items", "item neighbours"
METRICS = ("AUC", f"HR@{K}", f"NDCG@{K}")


def first_rows(seconds: np.ndarray, windows: int, days: float) -> list[int]:
    """The first row of each of the last windows of equal length."""
    after = int(seconds[-1]) + 1
    starts = after - np.arange(windows, 0, -1) * int(days * SECONDS_PER_DAY)
    return np.searchsorted(seconds, starts).tolist()


class Sources(NamedTuple):
    """Where items come from, with the settings that rank validation likes best."""

    days: float | None  # of popularity
    neighbours: ItemNeighboursConfig

    @classmethod
    def choose(cls, log: InteractionLog, parameters: Mapping[str, Any]) -> Self:
        days = popularity.chosen(log, parameters["popularity"])
        return cls(days, neighbours.chosen(log, parameters["item_neighbours"]))

    def reader(self, log: InteractionLog, usable: np.ndarray, lens: Scorer | None = None) -> CandidateReader:
        """Of the best items; neighbours count the usable events."""
        scorers: dict[str, Scorer] = {
            "popularity": Popularity(log, self.days).score,
            "neighbours": ItemNeighbours(log, self.neighbours, usable).score,
        }
        return CandidateReader(log, ItemFacts(log), scorers, lens)

    def train_ranker(self, log: InteractionLog, lens: Lens, config: RecommendationConfig) -> SecondStage:
        """The ranker that reads a lens, by validation likes."""
        likes = draw_positives(log, "validation", None, config.validation_likes, config.seed)
        reader = self.reader(log, log.training_events(), lens_scorer(LensReader(lens, log)))
        return SecondStage.learned(reader, candidate_pairs(log, likes, config.seed), likes, config.seed)


def hits_and_gains(recommended: np.ndarray, liked: np.ndarray) -> tuple[float, float]:
    """HR and NDCG of lists, means over users.

    Args:
        recommended: items, best first, shape (users, k).
        liked: whether a user likes an item, shape (users, items).
    """
    hit = np.take_along_axis(liked, recommended, axis=1)
    discount = 1 / np.log2(np.arange(2, hit.shape[1] + 2))
    ideal = np.cumsum(discount)[np.minimum(liked.sum(axis=1), hit.shape[1]) - 1]
    return float(hit.any(axis=1).mean()), float((hit @ discount / ideal).mean())


class Window:
    """The test rows of a log: who likes what after a second, and what is recommended to them before."""

    def __init__(self, log: InteractionLog, start: int, sources: Sources) -> None:
        likes = draw_positives(log, "test", None, None, seed=0)
        self.log, self.start, self._sources = log, start, sources
        self.rows = log.samples_in("test")
        self.users = likes.select(pl.col("user_index").unique(maintain_order=True))
        self._liked = np.zeros((self.users.height, log.items.height), dtype=bool)
        places = likes.join(self.users.with_row_index("place"), on="user_index", maintain_order="left")["place"]
        self._liked[places, likes["item_index"]] = True
        self._candidates: dict[int, pl.DataFrame] = {}

    def candidates(self, second: int) -> pl.DataFrame:
        """The users' best items by both sources, and their features, by what was known before a second."""
        if second not in self._candidates:
            reader = self._sources.reader(self.log, self.log.sequences.timestamp < second)
            parts = []
            for pairs in candidate_pairs(self.log, as_of(second, self.log, self.users), seed=0):
                read = reader.read(pairs)
                parts.append(pairs[read.places].hstack(read.features))
            self._candidates[second] = pl.concat(parts)
        return self._candidates[second]

    def without_lens(self) -> dict[str, dict[str, float | None]]:
        """The metrics of the sources."""
        candidates = self.candidates(self.start)
        popular, near = (candidates[name] for name in ("popularity_rank", "neighbours_score"))
        by_source = {
            POPULAR: popular,
            NEIGHBOURS: pl.select(pl.when(near > 0).then(near).otherwise(popular)).to_series(),
        }
        return {source: measures(None, *self._ranked(candidates, scores)) for source, scores in by_source.items()}

    def by_lens(self, lens: Lens, second: int, ranker: SecondStage) -> dict[str, float | None]:
        """The metrics of a lens, and of a ranker that reads it, by what was known before a second."""
        reader, candidates = LensReader(lens, self.log), self.candidates(second)
        auc = roc_auc_score(self.rows["label"], reader.logits(as_of(second, self.log, self.rows)).numpy())
        features = candidates.with_columns(pl.Series(LENS, reader.logits(candidates).numpy()))
        return measures(auc, *self._ranked(candidates, pl.Series(ranker.score(features))))

    def _ranked(self, candidates: pl.DataFrame, scores: pl.Series) -> tuple[float, float]:
        pairs = candidates.select("item_index", user_id="user_index").with_columns(scores.alias("score"))
        best = best_of_each_user(pairs, "score", K)["item_index"].to_numpy()
        return hits_and_gains(best.reshape(self.users.height, -1), self._liked)


def measures(*values: float | None) -> dict[str, float | None]:
    return dict(zip(METRICS, values, strict=True))


def configs_by_seed(parameters: Mapping[str, Any], seeds: int) -> list[LensConfig]:
    """The settings of the lens, once per seed."""
    config: LensConfig = parameters["lens"]
    return [config.model_copy(update={"seed": config.seed + each}) for each in range(seeds)]


def follow(logs: Iterable[tuple[int, InteractionLog]], project: Project, seeds: int) -> Iterator[dict[str, Any]]:
    """The metrics of each window, policy and seed; models without a lens have no seed.

    Args:
        logs: the first second of each window, and the log at its end.
    """
    parameters = project.parameters
    configs = configs_by_seed(parameters, seeds)
    lenses, rankers = dict[tuple[int, str], Lens](), list[SecondStage]()
    begun = 0
    for number, (start, log) in enumerate(logs, start=1):
        if number == 1:
            begun, sources = start, Sources.choose(log, parameters)
            for seed, config in enumerate(configs):
                lens, _ = fit_lens(log, config)
                lenses |= {(seed, policy): lens for policy in POLICIES}
                rankers.append(sources.train_ranker(log, lens, parameters["recommendation"]))
        window = Window(log, start, sources)
        day = pl.select(pl.from_epoch(pl.lit(start))).item().date()
        where = {"window": number, "from": str(day), "rows": window.rows.height, "users": window.users.height}
        for source, values in window.without_lens().items():
            yield where | {"policy": source, "seed": None} | values
        for (seed, policy), lens in lenses.items():
            if number > 1:
                lens, _ = update(lens, policy, log, parameters | {"lens": configs[seed]})
                lenses[seed, policy] = lens
            values = window.by_lens(lens, begun if policy == FROZEN else start, rankers[seed])
            yield where | {"policy": policy, "seed": seed} | values


def summarize(records: Records, measures: Sequence[str], *by: str) -> Records:
    """The means of measures, and the standard deviations over seeds of the means of each seed."""
    frame = pl.DataFrame(records, infer_schema_length=None)
    of_seed = frame.group_by(*by, "seed", maintain_order=True).agg(pl.col(measures).mean())
    columns = [each for name in measures for each in (pl.col(name).mean(), pl.col(name).std().alias(f"sd {name}"))]
    return of_seed.group_by(by, maintain_order=True).agg(columns).to_dicts()


def draw(by_window: Records) -> go.Figure:
    """The metrics of each window by policy, a plot per metric."""
    frame = pl.DataFrame(by_window, infer_schema_length=None)
    figure = make_subplots(cols=len(METRICS), subplot_titles=METRICS, horizontal_spacing=0.06)
    colours = ("#B8BCC4", "#17777B", "#757B85", "#2A9D8F", "#E76F51", "#264653")
    for col, name in enumerate(METRICS, start=1):
        for policy, colour in zip(frame["policy"].unique(maintain_order=True), colours, strict=True):
            part = frame.filter(policy=policy)
            figure.add_scatter(
                x=part["from"], y=part[name], name=policy, legendgroup=policy, showlegend=col == 2,
                line_color=colour, row=1, col=col,
            )  # fmt: skip
    figure.update_xaxes(title_text="first day of the window")
    return figure.update_layout(template=TEMPLATE, legend_y=1.2, legend_orientation="h")


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", choices=LOGS, default="movietweetings")
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--days", type=float, default=DAYS, help="length of a window")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of lenses of each policy")
    arguments = parser.parse_args()
    project = open_project(LOGS[arguments.log])
    tables = read_tables(project)
    seconds = tables.interactions["timestamp"].to_numpy()
    rows = first_rows(seconds, arguments.windows, arguments.days)
    logs = zip(seconds[rows].tolist(), blocks_of(tables, project, rows), strict=True)
    records = [*follow(tqdm(logs, desc="windows", total=len(rows)), project, arguments.seeds)]
    later = [record for record in records if record["window"] > 1]
    by_window = summarize(records, METRICS, "window", "from", "rows", "users", "policy")
    shown = {"Windows after the first": summarize(later, METRICS, "policy"), "By window": by_window}
    publish("windows", shown, draw(by_window), digits=4)


if __name__ == "__main__":
    main()
