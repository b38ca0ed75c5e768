"""Drift of a log after the training of a lens, by periods."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import entropy, ks_2samp
from sklearn.metrics import log_loss, roc_auc_score

from reclora_extras.monitoring.config import POPULATIONS, AlarmConfig, K, MonitoringConfig
from reclora_kedro.candidates.item_model import Training
from reclora_kedro.candidates.next_item.base import Retriever, grow_retriever
from reclora_kedro.evaluation.records import Record
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.questions import MOMENT
from reclora_kedro.history.sequences import user_of_events
from reclora_kedro.history.taken_items import taken_before
from reclora_kedro.ingestion.plausible_times import SECONDS_PER_DAY
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import grow_lens
from reclora_kedro.lens.layers import UNKNOWN_ID
from reclora_kedro.lens.states import LensReader, lens_scores
from reclora_kedro.recommendation.chosen import Choice
from reclora_kedro.recommendation.config import RecommendationConfig
from reclora_kedro.recommendation.item_ranks import draw, rank_likes
from reclora_kedro.recommendation.list_metrics import ranks_in_lists
from reclora_kedro.recommendation.recommender import FittedRecommender

Values = npt.NDArray[np.number]

BINS = 10  # quantiles of the reference between which shares are compared


class Period(NamedTuple):
    """Seconds from `begin`, included, to `end`, excluded."""

    begin: int
    end: int

    def holds(self, seconds: Values) -> npt.NDArray[np.bool_]:
        return (seconds >= self.begin) & (seconds < self.end)


def periods(after: int, last: int, config: MonitoringConfig) -> Iterator[Period]:
    """Yield the reference, from the second after `after`, and the periods that follow it until `last`.

    ValueError is raised if there is nothing after the reference.
    """
    end = after + 1 + round(config.reference_days * SECONDS_PER_DAY)
    if last < end:
        days = (last - after) / SECONDS_PER_DAY
        raise ValueError(
            f"The log ends {days:.1f} days after the lens's last training row, but the reference period takes "
            f"{config.reference_days:g}: lower monitoring.reference_days, or wait for more events."
        )
    yield Period(after + 1, end)
    for begin in range(end, last + 1, round(config.period_days * SECONDS_PER_DAY)):
        yield Period(begin, begin + round(config.period_days * SECONDS_PER_DAY))


def measure_drift(
    log: InteractionLog,
    lens: Lens,
    choice: Choice,
    recommendation: RecommendationConfig,
    config: MonitoringConfig,
    retriever: Retriever | None = None,
) -> list[Record]:
    """Return one record per period with events after the last training row of a lens, the reference first.

    Users are compared by the number of their earlier events, and items by that of their events until the training
    ended. The AUC is that of the lens, and the hit rate that of the recommender, which knows the events until then;
    both read histories up to each moment. The catalog entry `drift` describes the records. ValueError is raised if the
    log does not go on after the reference, or the choice reads a retriever, and there is none.
    """
    until, events = lens.sizes.trained_until, log.sequences
    user, item, is_training_event = user_of_events(events.offsets), events.item_index, events.timestamp <= until
    reader = LensReader(grown := grow_lens(lens, log), log)
    training = Training(log, is_training_event, None if retriever is None else grow_retriever(retriever, log))
    recommender = FittedRecommender.from_choice(training, choice, recommendation, reader)
    of_events = {
        "users": np.arange(len(user)) - events.offsets[user],
        "items": np.bincount(item[is_training_event], minlength=log.items.height)[item],
        "ratings": events.rating,
    }
    samples = log.samples.filter(pl.col("label").is_not_null())
    positives = samples.filter(label=1)
    positives = positives if log.repeats is None else pl.concat([positives, log.repeats])
    positives = positives.filter(_may_be_listed(recommender, positives))
    records, reference = list[Record](), dict[str, Values]()
    for number, period in enumerate(periods(until, events.last_second, config)):
        own = period.holds(events.timestamp)
        if number and not own.any():
            continue
        record: Record = {"begin": period.begin, "end": period.end, "events": int(own.sum())}
        for name, index, codes in (("users", user, grown.user.id_codes), ("items", item, grown.item.id_codes)):
            is_unknown = codes.numpy()[index[own]] == UNKNOWN_ID
            record |= {name: len(np.unique(index[own])), f"unknown_{name}": _mean(is_unknown)}
        in_period = samples.filter(period.holds(samples["timestamp"].to_numpy()))
        drawn = draw(in_period, config.rows, [config.seed, number])
        scores = lens_scores({"logit": reader.logits(drawn)}) if drawn.height else np.array([])
        record |= _accuracy(scores, drawn["label"].to_numpy(), config.alarms.least)
        likes = positives.filter(period.holds(positives["timestamp"].to_numpy()))
        likes = draw(likes, config.likes, [config.seed, number])
        record |= {"likes": likes.height, "hit_rate": None, "recommends": choice.name}
        if likes.height >= config.alarms.least:
            record["hit_rate"] = _hit_rate(recommender, likes.select("row", "item_index", *MOMENT))
        populations = {name: values[own] for name, values in of_events.items()} | {"scores": scores}
        reference = reference or populations
        record |= _differences(reference, populations, config.alarms.least)
        records.append(record)
    return [record | {"alarms": alarms(record, records[0], config.alarms)} for record in records]


def alarms(record: Mapping[str, Any], reference: Mapping[str, Any], config: AlarmConfig) -> list[str]:
    """Return a sentence for each value that differs from the reference by more than it may.

    Examples:
        >>> config = AlarmConfig(
        ...     least=1, psi=0.25, unknown=None, calibration=None, auc_fall=0.05, hit_rate_fall=None
        ... )
        >>> alarms({"psi_items": 0.31, "auc": 0.68}, {"auc": 0.75}, config)
        ['PSI of items: 0.310, above 0.25', 'AUC: 0.680, more than 0.05 below 0.750']
    """
    sentences = []
    most = {f"psi_{name}": (f"PSI of {name}", config.psi) for name in POPULATIONS}
    most |= {f"unknown_{name}": (f"share of events of unknown {name}", config.unknown) for name in ("users", "items")}
    for name, (what, bound) in most.items():
        if bound is not None and (value := record.get(name)) is not None and value > bound:
            sentences.append(f"{what}: {value:.3f}, above {bound:g}")
    for name, what, bound in (("auc", "AUC", config.auc_fall), ("hit_rate", f"HR@{K}", config.hit_rate_fall)):
        value, before = record.get(name), reference.get(name)
        if bound is not None and value is not None and before is not None and value < before - bound:
            sentences.append(f"{what}: {value:.3f}, more than {bound:g} below {before:.3f}")
    bound, score, share = config.calibration, record.get("mean_score"), record.get("like_share")
    if bound is not None and score is not None and share is not None and abs(score - share) > bound:
        sentences.append(f"mean score: {score:.3f}, more than {bound:g} from the share of likes, {share:.3f}")
    return sentences


def stability_index(reference: Values, values: Values) -> float:
    """Return the population stability index, the sum over bins of (p - q) ln(p / q), in nats.

    It is the Jeffreys divergence of the shares p and q of the bins, which quantiles of the reference bound; each bin
    has half a value more, so that none is empty. A population is usually taken as stable below 0.1, and as
    moved above 0.25.

    Examples:
        >>> same, other = np.arange(100), np.arange(100) + 50
        >>> round(stability_index(same, same), 3), stability_index(same, other) > 0.25
        (0.0, True)
    """
    edges = np.unique(np.quantile(reference, np.arange(1, BINS) / BINS))
    p, q = (
        np.bincount(np.searchsorted(edges, each, side="left"), minlength=len(edges) + 1) + 0.5
        for each in (reference, values)
    )
    return float(entropy(p, q) + entropy(q, p))


def _differences(reference: Mapping[str, Values], populations: Mapping[str, Values], least: int) -> Record:
    record: Record = {}
    for name, values in populations.items():
        is_defined = min(len(values), len(reference[name])) >= least
        # A log without ratings has NaN in their place.
        is_defined = is_defined and not np.isnan(values).any() and not np.isnan(reference[name]).any()
        record[f"psi_{name}"] = stability_index(reference[name], values) if is_defined else None
        record[f"ks_{name}"] = float(ks_2samp(reference[name], values).statistic) if is_defined else None
    return record


def _accuracy(scores: Values, labels: Values, least: int) -> Record:
    record: Record = {"rows": len(labels)} | dict.fromkeys(("mean_score", "like_share", "log_loss", "auc"))
    if len(labels) >= least:
        record |= {"mean_score": _mean(scores), "like_share": _mean(labels)}
        record["log_loss"] = float(log_loss(labels, scores.astype(np.float64), labels=[0, 1]))
        record["auc"] = float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else None
    return record


def _may_be_listed(recommender: FittedRecommender, samples: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether the rules let each sample's item be recommended at its moment, shape (samples,)."""
    rules, item = recommender.rules, samples["item_index"].to_numpy()
    listed = ~np.isin(item, rules.excluded)
    return listed if rules.repeat else listed & ~taken_before(recommender.log.sequences, samples)


def _hit_rate(recommender: FittedRecommender, likes: pl.DataFrame) -> float | None:
    choice = recommender.choice
    list_makers = {choice.name: recommender.list_maker(choice.kind, choice.order)}
    ranks = rank_likes(list_makers, recommender.moments(likes), likes, K)
    return _mean(ranks_in_lists(ranks) <= K)


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
