"""Lens states of the few-shot rows, in sample or from lenses that did not learn from those rows.

The lens learns from the few-shot rows too, so its in-sample states of them are surer of the label than its states of
any new row are. Gates that learn from such states trust them too much. Cross-fitting gives each few-shot row the state
of a lens trained without it, as it will be for new rows.
"""

from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import Field
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from kedro_provenance.parameters import Block
from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.histories.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import lens_states
from reclora_kedro.lens.training import refit_lens
from reclora_kedro.parameters import Count

Records = list[dict[str, Any]]

MAP_ROWS = 10_000  # validation samples that a map between two lenses is fitted and tested on, at most
MAP_PENALTIES = np.logspace(-3, 3, 7)  # of which the map takes the one with the least leave-one-out error


class FewShotConfig(Block):
    """Which rows the LLM learns from, and what gates see of the lens meanwhile."""

    selection: Literal["uniform", "quality"] = "uniform"
    candidates_per_row: Count = 2
    lens_states: Literal["in_sample", "cross_fitted"]
    folds: Annotated[Count, Field(ge=2)]


def learning_states(
    lens: Lens,
    log: InteractionLog,
    questions: pl.DataFrame,
    training_log: pl.DataFrame,
    config: FewShotConfig,
    engine: EngineConfig = LOCAL,
) -> tuple[dict[str, Tensor], Records]:
    """States of few-shot and validation rows, those of the former as gates learn from them: its own, or cross-fitted.

    The log holds the samples that the lens learned from, and the training log is what it left. The engine computes its
    own states.

    Returns:
        Row, states by kind and ``logit``, in the order of the questions; and a report. Its first record is of all
        few-shot rows: fold (all), rows, in_sample_auc, cross_fitted_auc (null for in_sample), and validation_auc, what
        new rows get. The others are those of `cross_fit`.
    """
    states = lens_states(lens, log, questions, engine)
    places = np.flatnonzero(questions["use"] == "few_shot")
    few_shot = questions[places]
    labels = few_shot["label"].to_numpy()
    summary = {
        "fold": "all",
        "rows": few_shot.height,
        "in_sample_auc": float(roc_auc_score(labels, states["logit"][places])),
        "cross_fitted_auc": None,
        "validation_auc": training_log["validation_auc"].max(),
    }
    if config.lens_states == "in_sample":
        return states, [summary]
    best_epoch = int(training_log["validation_auc"].arg_max() or 0) + 1
    fitted, folds = cross_fit(lens, log, few_shot, best_epoch, config.folds)
    summary["cross_fitted_auc"] = float(roc_auc_score(labels, fitted["logit"]))
    for kind, state in fitted.items():
        states[kind][places] = state
    return states, [summary, *folds]


def cross_fit(
    lens: Lens, log: InteractionLog, few_shot: pl.DataFrame, epochs: int, folds: int
) -> tuple[dict[str, Tensor], Records]:
    """States and logits of the few-shot questions, each from a lens trained as `lens` was, but without its fold's rows.

    Folds are drawn by the lens's seed, whatever the labels. A fold's lens has hidden units of its own, so its states
    are brought into the space of `lens` by `align_states`, on validation samples, which neither lens learned from.

    Args:
        lens: the trained lens.
        log: the log with the training samples that `lens` learned from.
        few_shot: n questions that are rows of these; those of drawn negatives may ask about another item than the lens
            learned from, see `with_retrieved_negatives`.
        epochs: passes over the training samples.
        folds: parts of the few-shot questions, at most n.

    Returns:
        Float32 states by kind, shape (n, state_dim(kind)), and `logit`, shape (n,), which stays the fold's lens's own;
        and one record per fold: fold, rows, validation_auc (of the fold's lens), and for each kind of state
        `<kind>_r2`, the share of the variance of `lens`'s states that the map explains on validation samples that it
        was not fitted on.

    Raises:
        ValueError: there are more folds than few-shot questions.
    """
    if folds > len(few_shot):
        raise ValueError(
            f"few_shot.folds is {folds}, but there are {len(few_shot)} few-shot rows: lower it to at most that, or "
            "raise history.prompt_rows.few_shot"
        )
    fold_of = np.random.default_rng(lens.config.seed).permutation(len(few_shot)) % folds
    validation = log.rows_in("validation")
    unseen = log.samples[validation[np.linspace(0, len(validation) - 1, min(len(validation), MAP_ROWS)).astype(int)]]
    target = lens_states(lens, log, unseen)
    states = {kind: torch.empty(len(few_shot), *state.shape[1:]) for kind, state in target.items() if kind != "row"}
    records: Records = []
    for fold in range(folds):
        inside = np.flatnonzero(fold_of == fold)
        other = refit_lens(lens, log, few_shot["row"].to_numpy()[inside], epochs)
        unseen_states, source = (lens_states(other, log, of_fold) for of_fold in (few_shot[inside], unseen))
        fits = {}
        for kind in lens.state_kinds:
            unseen_states[kind], fits[f"{kind}_r2"] = align_states(unseen_states[kind], source[kind], target[kind])
        for name, state in states.items():
            state[inside] = unseen_states[name]
        auc = float(roc_auc_score(unseen["label"], source["logit"]))
        records.append({"fold": str(fold + 1), "rows": len(inside), "validation_auc": auc, **fits})
    return states, records


def align_states(states: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """States (n, dim) of one lens in the space of another: ridge regression of what differs between the two.

    The map is learned from states (m, dim) of rows that neither lens has seen: the first lens's (source) and the
    second's (target). The penalty draws it towards the identity. No labels are used. A fifth of the rows tests it.

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
