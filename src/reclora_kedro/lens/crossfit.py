"""Lens states of the few-shot rows, in sample or from lenses that did not learn from those rows.

The lens learns from the few-shot rows too, so its in-sample states of them are surer of the label than its states of
any new row are. Gates that learn from such states trust them too much. Cross-fitting gives each few-shot row the state
of a lens trained without it, as it will be for new rows.
"""

from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.features import LensRows
from reclora_kedro.lens.training import refit_lens, score_rows

Records = list[dict[str, Any]]

MAP_ROWS = 10_000  # validation rows that a map between two lenses is fitted and tested on, at most
MAP_PENALTIES = np.logspace(-3, 3, 7)  # of which the map takes the one with the least leave-one-out error


class FewShotConfig(BaseModel):
    """What gates see of the lens while they learn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lens_states: Literal["in_sample", "cross_fitted"] = Field(
        description="in_sample: of the lens itself; cross_fitted: of lenses trained without the row"
    )
    folds: int = Field(ge=2, description="parts of the few-shot rows, each left out of one lens (cross_fitted)")


def prompt_row_states(
    lens: Lens,
    rows: LensRows,
    samples: pl.DataFrame,
    prompt_rows: pl.DataFrame,
    training_log: pl.DataFrame,
    config: FewShotConfig,
) -> tuple[dict[str, Tensor], Records]:
    """States of every kind and logits of the prompt rows; those of the few-shot rows as configured.

    Args:
        lens: the trained lens.
        rows: all samples, as the lens reads them.
        samples: the samples table, all splits.
        prompt_rows: row and use of each prompt.
        training_log: the lens's, one row an epoch.
        config: where the states of the few-shot rows come from.

    Returns:
        `row`, int64, and float32 states by kind and `logit`, in the order of `prompt_rows`; and a report. Its first
        record is of all few-shot rows: fold (all), rows, in_sample_auc, cross_fitted_auc (null for in_sample), and
        validation_auc, what new rows get. The others are those of `cross_fit`.
    """
    row = prompt_rows["row"].cast(pl.Int64).to_numpy()
    states, _ = score_rows(lens, rows, row)
    places = np.flatnonzero((prompt_rows["use"] == "few_shot").to_numpy())
    labels = samples["label"].to_numpy()[row[places]]
    summary = {
        "fold": "all",
        "rows": len(places),
        "in_sample_auc": float(roc_auc_score(labels, states["logit"][places])),
        "cross_fitted_auc": None,
        "validation_auc": training_log["validation_auc"].max(),
    }
    folds: Records = []
    if config.lens_states == "cross_fitted":
        best_epoch = int(training_log["validation_auc"].arg_max() or 0) + 1
        fitted, folds = cross_fit(lens, rows, samples, row[places], best_epoch, config.folds)
        summary["cross_fitted_auc"] = float(roc_auc_score(labels, fitted["logit"]))
        for name, state in fitted.items():
            states[name][places] = state
    return {"row": torch.tensor(row), **states}, [summary, *folds]


def cross_fit(
    lens: Lens, rows: LensRows, samples: pl.DataFrame, few_shot: np.ndarray, epochs: int, folds: int
) -> tuple[dict[str, Tensor], Records]:
    """States and logits of the few-shot rows, each from a lens trained on all training rows but those of its fold.

    Folds are drawn by the lens's seed, whatever the labels. A fold's lens has hidden units of its own, so its states
    are brought into the space of `lens` by `align_states`, on validation rows, which neither lens learned from.

    Args:
        lens: the lens of all training rows.
        rows: all samples, as the lens reads them.
        samples: the samples table, all splits.
        few_shot: numbers of training rows, shape (n,).
        epochs: passes over the training rows.
        folds: parts of the few-shot rows, at most n.

    Returns:
        Float32 states by kind, shape (n, state_dim(kind)), and `logit`, shape (n,), which stays the fold's lens's own;
        and one record a fold: fold, rows, validation_auc (of the fold's lens), and for each kind of state `<kind>_r2`,
        the share of the variance of `lens`'s states that the map explains on validation rows that it was not fitted on.

    Raises:
        ValueError: there are more folds than few-shot rows.
    """
    if folds > len(few_shot):
        raise ValueError(
            f"few_shot.folds is {folds}, but there are {len(few_shot)} few-shot rows: lower it to at most that, or "
            "raise history.prompt_rows.few_shot"
        )
    fold_of = np.random.default_rng(lens.config.seed).permutation(len(few_shot)) % folds
    unseen = _some_validation_rows(samples)
    unseen_labels = samples["label"].to_numpy()[unseen]
    target, _ = score_rows(lens, rows, unseen)
    states = {kind: torch.empty(len(few_shot), *state.shape[1:]) for kind, state in target.items()}
    records: Records = []
    for fold in range(folds):
        inside = np.flatnonzero(fold_of == fold)
        other = refit_lens(lens, rows, samples, few_shot[inside], epochs)
        found, _ = score_rows(other, rows, few_shot[inside])
        source, _ = score_rows(other, rows, unseen)
        fits = {}
        for kind in lens.state_kinds:
            found[kind], fits[f"{kind}_r2"] = align_states(found[kind], source[kind], target[kind])
        for name, state in found.items():
            states[name][inside] = state
        auc = float(roc_auc_score(unseen_labels, source["logit"]))
        records.append({"fold": str(fold + 1), "rows": len(inside), "validation_auc": auc, **fits})
    return states, records


def align_states(states: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """States of one lens in the space of another: ridge regression of what differs between the two.

    The penalty draws the map towards the identity. No labels are used. A fifth of the rows tests the map.

    Args:
        states: the first lens's, to be mapped, shape (n, dim).
        source: the first lens's states of rows that both lenses have not seen, shape (m, dim).
        target: the second lens's states of the same rows, shape (m, dim).

    Returns:
        The mapped states, float32, shape (n, dim), and R² on the rows that test the map, over all units together.

    Examples:
        >>> source = torch.randn(100, 3, generator=torch.manual_seed(0))
        >>> mapped, fit = align_states(source[:5], source, source.flip(1))
        >>> torch.allclose(mapped, source[:5].flip(1), atol=1e-3), fit > 0.999
        (True, True)
    """
    x, y = source.double().numpy(), target.double().numpy()
    tests = np.arange(len(x)) % 5 == 0
    ridge = make_pipeline(StandardScaler(), RidgeCV(MAP_PENALTIES)).fit(x[~tests], (y - x)[~tests])

    def mapped(x: np.ndarray) -> np.ndarray:
        return x + ridge.predict(x).reshape(x.shape)  # of a single unit, scikit-learn returns a flat array

    fit = r2_score(y[tests], mapped(x[tests]), multioutput="variance_weighted")
    return torch.from_numpy(mapped(states.double().numpy())).float(), float(fit)


def _some_validation_rows(samples: pl.DataFrame) -> np.ndarray:
    """All validation rows or, of many, as many as a map needs, evenly spread over time."""
    rows = np.flatnonzero((samples["split"] == "validation").to_numpy())
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MAP_ROWS)).astype(int)]
