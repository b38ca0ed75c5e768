"""Updates in sliding windows over time, as RecNextEval has them (Ng et al., arXiv 2604.13665): the last six weeks.

    make bench-windows
    python benchmarks/windows.py --log movielens-100k --windows 4 --seeds 1

At a window's first second, each policy of `lifelong` recommends ten items to everyone who likes an item in the window
that is new to them, and scores all rows of the window; nothing of the window is known. Then its events are released,
and the lenses are updated. Items of the whole catalogue are recommended as `kedro run --pipelines recommendation` does
by its ranker: a weighted sum and trees, trained once on validation likes, order the best items by popularity and by
Item-kNN, and read the lens. Both sources also stand alone.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from lifelong import FROZEN, LOGS, POLICIES, as_of, blocks_of, read_tables, update
from results import publish
from running import Project, open_project
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.popularity import SECONDS_PER_DAY
from reclora_kedro.evaluation.figures import empty_figure
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.lens.states import LensReader
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.recommendation.choice import MethodChoice
from reclora_kedro.recommendation.chosen import Choice, validated_configs
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.second_stage import SecondStage

DAYS, WINDOWS, SEEDS = 7, 6, 3  # days of a window, windows at the end of the log, and seeds of the lenses
K = 10  # items that are recommended
SOURCES = {"popularity": "popular items", "item_knn": "Item-kNN"}
RANKER = {"sources": (*SOURCES,), "method": "ranker", "order": "lens"}
METRICS = ("AUC", f"HR@{K}", f"NDCG@{K}")


def first_rows(seconds: np.ndarray, windows: int, days: float) -> list[int]:
    """The first row of each of the last windows of equal length."""
    after = int(seconds[-1]) + 1
    starts = after - np.arange(windows, 0, -1) * int(days * SECONDS_PER_DAY)
    return np.searchsorted(seconds, starts).tolist()


def rules(parameters: Mapping[str, Any]) -> RecommendationConfig:
    """The settings of recommendations, by the ranker alone."""
    return RecommendationConfig.model_validate(dict(parameters["recommendation"]) | RANKER)


def train_ranker(log: InteractionLog, lens: Lens, parameters: Mapping[str, Any]) -> Choice:
    """The sources' settings and the ranker, whose lists a lens reorders, by validation likes."""
    config = rules(parameters)
    configs = validated_configs(config.sources, parameters)
    bootstrap, reader = parameters["bootstrap"], LensReader(lens, log)
    return MethodChoice(log=log, config=config, configs=configs, bootstrap=bootstrap, lens=reader).choose()[0]


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

    def __init__(self, log: InteractionLog, start: int, config: RecommendationConfig) -> None:
        likes = draw_positives(log, "test", None, seed=0)
        self.log, self.start, self._config = log, start, config
        self.rows = log.samples_in("test")
        self.users = likes.select(pl.col("user_index").unique(maintain_order=True))
        self._liked = np.zeros((self.users.height, log.items.height), dtype=bool)
        places = likes.join(self.users.with_row_index("place"), on="user_index", maintain_order="left")["place"]
        self._liked[places, likes["item_index"]] = True
        self._known: dict[int, Training] = {}

    def without_lens(self, choice: Choice) -> dict[str, dict[str, float | None]]:
        """The metrics of the sources."""
        alone = {"order": "candidates", "stage": SecondStage()}
        by_source = {
            name: self._ranked(self.start, choice.model_copy(update=alone | {"kind": source}), None)
            for source, name in SOURCES.items()
        }
        return {name: measures(None, *ranked) for name, ranked in by_source.items()}

    def by_lens(self, lens: Lens, second: int, choice: Choice) -> dict[str, float | None]:
        """The metrics of a lens, and of a ranker that reads it, by what was known before a second."""
        reader = LensReader(lens, self.log)
        auc = roc_auc_score(self.rows["label"], reader.logits(as_of(second, self.log, self.rows)).numpy())
        return measures(auc, *self._ranked(second, choice, reader))

    def _ranked(self, second: int, choice: Choice, reader: LensReader | None) -> tuple[float, float]:
        if second not in self._known:
            self._known[second] = Training(self.log, self.log.sequences.timestamp < second)
        recommender = FittedRecommender.from_choice(self._known[second], choice, self._config, reader)
        moments = recommender.moments(as_of(second, self.log, self.users))
        return hits_and_gains(recommender.list_maker(choice.kind).top(moments, K).items, self._liked)


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
    lenses, rankers = dict[tuple[int, str], Lens](), list[Choice]()
    begun = 0
    for number, (start, log) in enumerate(logs, start=1):
        if number == 1:
            begun = start
            for seed, config in enumerate(configs):
                lens, _ = fit_lens(log, config)
                lenses |= {(seed, policy): lens for policy in POLICIES}
                rankers.append(train_ranker(log, lens, parameters))
        window = Window(log, start, rules(parameters))
        day = pl.select(pl.from_epoch(pl.lit(start))).item().date()
        where = {"window": number, "from": str(day), "rows": window.rows.height, "users": window.users.height}
        for source, values in window.without_lens(rankers[0]).items():
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
    figure = empty_figure(cols=len(METRICS), subplot_titles=METRICS, horizontal_spacing=0.06)
    colours = ("#B8BCC4", "#17777B", "#757B85", "#2A9D8F", "#E76F51", "#264653")
    for col, name in enumerate(METRICS, start=1):
        for policy, colour in zip(frame["policy"].unique(maintain_order=True), colours, strict=True):
            part = frame.filter(policy=policy)
            figure.add_scatter(
                x=part["from"], y=part[name], name=policy, legendgroup=policy, showlegend=col == 2,
                line_color=colour, row=1, col=col,
            )  # fmt: skip
    figure.update_xaxes(title_text="first day of the window")
    return figure.update_layout(legend_y=1.2, legend_orientation="h")


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
