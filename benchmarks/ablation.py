"""What each part of the default recommender is worth: one table per log, differences paired over users.

    make bench-ablation
    python benchmarks/ablation.py --logs movielens-100k

EASE of ids comes first. Each row adds one part to the row above it and chooses its settings by validation likes, among
those of conf/base: recency, transitions (items taken near one another), directed ones (items taken next), texts; at
last the second stage with all sources, as validation likes of one half of the users teach it. Its ids alone stand
beside. All are fitted to the training split and rank test likes at their moments, under the environment's protocol.
Events of one second are in the order of the file, or in one that is drawn (`history.ties`).
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go
import polars as pl
from lifelong import LOGS, read_tables
from results import publish
from running import open_project

from reclora_kedro.candidates.item_model import Step, Training, choose_settings
from reclora_kedro.candidates.linear import MOST_TAKEN, Linear, LinearConfig, LinearSettings
from reclora_kedro.evaluation.bootstrap import Bootstrap, holm
from reclora_kedro.evaluation.figures import empty_figure
from reclora_kedro.evaluation.records import Records
from reclora_kedro.history.fields import describe_items
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.log_builder import build_log
from reclora_kedro.history.taken_items import draw_positives
from reclora_kedro.recommendation.choice import ValidationLikes
from reclora_kedro.recommendation.chosen import Choice, Configs, settings_of_sources, validated_configs
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.item_ranks import moments_of, rank_likes
from reclora_kedro.recommendation.list_metrics import Catalogue
from reclora_kedro.recommendation.ranking_metrics import compute_ranking_metrics
from reclora_kedro.recommendation.recommender import FittedRecommender
from reclora_kedro.recommendation.second_stage import SecondStage

K = 10
ORDERS = {"order": "of the file", "strict": "drawn"}  # of events of one second, by `history.ties`
FIRST, TEXTS, SECOND_STAGE, IDS_ALONE = "EASE", "+ texts", "+ second stage", "the same, ids alone"


class Given(Linear):
    """The linear model, whose settings are chosen among given steps."""

    @classmethod
    def choices(cls, config: Any, training: Training) -> list[Step]:
        return list(config)


def steps_of(config: LinearConfig, has_texts: bool) -> dict[str, Step]:
    """Return the settings that each part adds, in the order of the table; the first ones keep what was chosen."""
    regularizations = [{"regularization": each} for each in config.regularizations]
    weights = config.transition_weights
    transitions = [
        {"transition_weight": each, "within_moments": within} for each in weights for within in (True, False)
    ]
    texts = [each | {"text_weight": weight} for weight in config.text_weights for each in regularizations]
    parts = {
        FIRST: Step([each | {"recency": 1.0, "max_items": config.max_items} for each in regularizations], MOST_TAKEN),
        "+ recency": Step([{"recency": each} for each in config.recencies], MOST_TAKEN),
        "+ transitions": Step([{}, *transitions]),
        "+ directed": Step([{}, *(each | {"directed": True} for each in transitions)]),
    }
    return parts | ({TEXTS: Step([{}, *texts], MOST_TAKEN)} if has_texts else {})


def variants(
    training: Training, config: RecommendationConfig, configs: Configs, likes: ValidationLikes
) -> Iterator[tuple[str, FittedRecommender]]:
    """Yield the recommender of each row with its name."""
    rules, live = config.rules_of(training.log.items), config.protocol == "live"
    has_texts = describe_items(training.log.items) != training.log.items["item_id"].cast(pl.String).to_list()

    def made(kind: str, sources: dict[str, Any], stage: SecondStage) -> FittedRecommender:
        choice = Choice(kind=kind, order="candidates", sources=sources, stage=stage)
        return FittedRecommender.from_choice(training, choice, config).as_measured(training)

    def in_two_stages(settings: LinearSettings) -> FittedRecommender:
        sources = others | {"linear": settings.model_dump(mode="json")}
        moments = (first := made("fusion", sources, SecondStage())).moments(likes.teaching)
        target = likes.teaching["item_index"].to_numpy()
        return made("ranker", sources, SecondStage.learned(first.reader, moments, target, config.seed))

    chosen, linear = {"": LinearSettings()}, cast(LinearConfig, configs["linear"])
    for name, step in steps_of(linear, has_texts).items():
        start = [*chosen.values()][-1].model_dump()
        steps = [Step([start | dict(change) for change in step.changes], step.most_items)]
        found = choose_settings(Given, training, steps, likes.settings, rules, live=live)
        chosen[name] = found
        yield name, made("linear", {"linear": found.model_dump(mode="json")}, SecondStage())
    rest = config.model_copy(update={"sources": tuple(each for each in config.sources if each != "linear")})
    others = settings_of_sources(rest, configs, training, likes.settings, live)
    yield SECOND_STAGE, in_two_stages([*chosen.values()][-1])
    if TEXTS in chosen:
        yield IDS_ALONE, in_two_stages(chosen["+ directed"])


def measure(name: str, ties: str, rows: int | None) -> list[dict[str, Any]]:
    """Return a record per row of the table of a log."""
    project = open_project(LOGS[name])
    parameters, tables = project.parameters, read_tables(project)
    history = parameters["history"].model_copy(update={"ties": ties})
    log = build_log(*tables, history)
    assert isinstance(log, InteractionLog)
    config = parameters["recommendation"].model_copy(update={"method": "validation", "order": "candidates"})
    configs = validated_configs(config.sources, parameters)
    training, likes = Training.from_split(log), ValidationLikes.draw(log, config)
    test = draw_positives(log, "test", rows, config.seed, config.rules_of(log.items))
    moments, bootstrap = moments_of(test, log, config.protocol), Bootstrap(confidence=0.95, seed=42)
    ranks, began, records = dict[str, pl.DataFrame](), time.process_time(), list[dict[str, Any]]()
    for part, recommender in variants(training, config, configs, likes):
        maker = {part: recommender.list_maker(recommender.choice.kind)}
        ranks[part] = rank_likes(maker, recommender.moments(moments), test, K)
        before = FIRST if part == FIRST else SECOND_STAGE if part == IDS_ALONE else [*ranks][-2]
        pair = pl.concat([ranks[each] for each in dict.fromkeys((before, part))])
        measured: Any = compute_ranking_metrics(pair, [before], Catalogue.from_log(log), (K,), bootstrap)[-1]
        columns = {f"HR@{K}": "hit_rate", f"NDCG@{K}": "ndcg", "less the row": "ndcg_difference"}
        columns |= {"low": "ndcg_difference_low", "high": "ndcg_difference_high", "p": "p_value"}
        of_log = {"log": name, "ties": ORDERS[ties], "part": part}
        costs = {"likes": test.height, "users": measured["users"], "CPU s so far": time.process_time() - began}
        records.append(of_log | {title: measured[key] for title, key in columns.items()} | costs)
        print(records[-1], flush=True)
    tested = [record for record in records if record["p"] is not None]
    for record, adjusted in zip(tested, holm(np.array([record["p"] for record in tested])).tolist(), strict=True):
        record["p"] = adjusted  # for the differences of one table
    return records


def draw(records: Records) -> go.Figure:
    """NDCG by part, a line per log and order of ties."""
    figure = empty_figure()
    for log, ties in dict.fromkeys((record["log"], record["ties"]) for record in records):
        own = [record for record in records if (record["log"], record["ties"]) == (log, ties)]
        name = f"{log}, order in a second {ties}"
        figure.add_scatter(x=[each["part"] for each in own], y=[each[f"NDCG@{K}"] for each in own], name=name)
    return figure.update_yaxes(title_text=f"NDCG@{K}")


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", nargs="+", choices=LOGS, default=["movielens-100k", "amazon-beauty"])
    parser.add_argument("--likes", type=int, help="of the test split, drawn; all by default")
    arguments = parser.parse_args()
    tables = {
        f"{name}, order in a second {words}": measure(name, ties, arguments.likes)
        for name in arguments.logs
        for ties, words in ORDERS.items()
    }
    publish("ablation", tables, draw([record for table in tables.values() for record in table]), digits=4)


if __name__ == "__main__":
    main()
