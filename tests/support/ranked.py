"""Records of a ranking as `ranking_metrics` and `beyond_accuracy` have them, all with the same numbers."""

from reclora_kedro.evaluation.segments import ALL, EVENT_BEFORE

CUTOFFS = 10, 20
VALUES = {f"{name}{end}": 0.1234 for name in ("hit_rate", "ndcg", "mrr", "novelty") for end in ("", "_low", "_high")}


def ranking_records(models):
    """Metrics of each model at each cutoff; the first model is the baseline."""
    counts = {
        "confidence": 0.95,
        "users": 1_553,
        "rows": 5_354,
        "candidates": 1562.98,
        "coverage": 0.0517,
        "among_500": 0.4444,
        "user_hit_rate": 0.1357,
        "user_ndcg": 0.0864,
    }
    pair = {
        "baseline": models[0], "p_adjusted": 0.0714,
        "ndcg_difference": 0.0123, "ndcg_difference_low": -0.001, "ndcg_difference_high": 0.0256,
    }  # fmt: skip
    return [{"model": model, "k": k} | counts | VALUES | pair for model in models for k in CUTOFFS]


def beyond_accuracy_records(models):
    """Metrics beyond accuracy of each model at each cutoff, of all likes and of two segments."""
    names = ("coverage", "gini", "diversity", "field_diversity", "tail_share", "serendipity")
    return [
        {"model": model, "k": k, "by": by, "segment": segment, "rows": 1_234, "popularity": 12_345.6}
        | VALUES
        | dict.fromkeys(names, 0.4567)
        for by, segment in (("likes", ALL), (EVENT_BEFORE, "of the same time"), ("events", "over 200"))
        for model in models
        for k in CUTOFFS
    ]
