"""What a LoRA per user is worth over one LoRA for all, given the same prior: docs/lab/personalization.md has the plan.

    kedro run --to-outputs learning.recent.prompts,test.recent.prompts,learning_states,test_states \\
      --params history.prompt_rows.few_shot=2048,history.prompt_rows.validation=512,history.prompt_rows.test=null
    python benchmarks/personalization.py --rows 4000
    python benchmarks/personalization.py --env amazon-beauty --history retrieved --cold --rows 3000

Logits are a * prior + LLM - LLM before training; the prior is that of boosted trees, out of fold for the few-shot rows.
Logits of every arm and seed are kept as they come, and `--summarize` makes the table of them.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import torch
from results import markdown
from running import ROOT
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from reclora_kedro.adapters.methods import new_adapter
from reclora_kedro.baselines.boosted_trees import PATIENCE, ROUNDS, SETTINGS, _numbers
from reclora_kedro.devices import seeded
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import fine_tune
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.states import gate_inputs
from reclora_kedro.llm.answer_model import AnswerModel, answering_model
from reclora_kedro.llm.prompt_set import PromptBatch, PromptSet, prompt_set

FOLDS, MARGIN = 5, 0.005
RETITLED_ROWS, CACHE_BYTES = 1000, 3 * 2**30
ADAPTED = ("shared", "user", "target")
TEXT_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
KEPT = ROOT / "data" / "personalization"


def tree_logits(log: InteractionLog, lens: Lens) -> np.ndarray:
    """Return logits of boosted trees for all samples, those of training rows by trees of the users of other folds."""
    labels, users = (log.samples[name].to_numpy() for name in ("label", "user_index"))
    train, validation, test = (log.rows_in(split) for split in ("train", "validation", "test"))
    with torch.inference_mode():
        with seeded(lens.config.seed, torch.device("cpu")):
            inputs = _numbers(log, log.samples[train], lens.train())
        unseen, scored = (_numbers(log, log.samples[rows], lens.eval()) for rows in (validation, test))

    def fit(rows: np.ndarray) -> lightgbm.Booster:
        learned = lightgbm.Dataset(inputs[rows], labels[train][rows])
        held_out = lightgbm.Dataset(unseen, labels[validation], reference=learned)
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        return lightgbm.train(
            SETTINGS | {"seed": lens.config.seed}, learned, ROUNDS, valid_sets=[held_out], callbacks=[stop]
        )

    logits, fold = np.zeros(len(labels)), users[train] % FOLDS
    for part in range(FOLDS):
        own = fold == part
        logits[train[own]] = fit(~own).predict(inputs[own], raw_score=True)
    trees = fit(np.ones(len(train), dtype=bool))
    logits[validation], logits[test] = (trees.predict(part, raw_score=True) for part in (unseen, scored))
    return logits


def text_features(log: InteractionLog, samples: pl.DataFrame) -> np.ndarray:
    """Return vectors of the target, of the mean of the user's latest 50 events, their products and the cosine."""
    from reclora_kedro.history.retrieval import recent_events, unit_vectors

    assert log.item_embeddings is not None
    vectors = unit_vectors(log.item_embeddings).astype(np.float32)
    events = recent_events(samples, log.sequences, 50)
    own = vectors[log.sequences.item_index[events.clip(0)]] * (events >= 0)[..., None]
    mean, target = own.mean(axis=1), vectors[samples["item_index"].to_numpy()]
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    return np.hstack([target, mean, target * mean, (target * mean).sum(axis=1, keepdims=True)])


@dataclass(frozen=True)
class ClicksWithPrior(Clicks):
    """Clicks with the LLM's logit and the rest of the logit, which stands in the place of the lens's."""

    def losses(self, model: AnswerModel, batch: PromptBatch, examples: np.ndarray) -> Tensor:
        """The cross entropy between label and answer."""
        assert self.prompts.gate_inputs is not None
        logits = model.llm_logits(batch)
        rest = self.prompts.gate_inputs.lens_logits[examples].to(logits)
        labels = torch.from_numpy(self.prompts.labels[examples]).to(logits)
        return functional.binary_cross_entropy_with_logits(logits + rest, labels, reduction="none")


def variant_of(parameters: Mapping[str, Any], name: str) -> VariantConfig:
    """Return the settings of a variant."""
    block = parameters["finetuning"]["variants"][name]
    return block if isinstance(block, VariantConfig) else VariantConfig.model_validate(block)


class Trial:
    """A log's prompts, states and prior, and the logits of each arm for its test rows."""

    def __init__(self, catalog: Any, parameters: Mapping[str, Any], arguments: argparse.Namespace) -> None:
        history = arguments.history
        self.parameters, self.base_llm, self.log = parameters, catalog.load("base_llm"), catalog.load("log")
        self.learning, test = (catalog.load(f"{name}.{history}.prompts") for name in ("learning", "test"))
        self.states = {name: catalog.load(f"{name}_states") for name in ("learning", "test")}
        if arguments.cold:
            events = self.log.training_events()
            seen = np.bincount(self.log.sequences.item_index[events], minlength=self.log.items.height) > 0
            test = test.filter(~seen[test["item_index"].to_numpy()])
        self.test, self.folder = test.sample(min(arguments.rows, test.height), seed=0).sort("row"), KEPT / arguments.env
        frozen, adapted = self.base_llm.frozen, variant_of(parameters, "reclora").adapter.last_layers
        frozen._capacity = frozen._free_bytes = CACHE_BYTES
        if adapted is not None:  # the untrained LLM fills the cache for the others
            frozen._first_layer = self.base_llm.model.config.num_hidden_layers - adapted
        self.folder.mkdir(parents=True, exist_ok=True)
        raw = tree_logits(self.log, catalog.load("lens"))
        few = self.learning.filter(use="few_shot")
        scale = LogisticRegression(C=np.inf).fit(raw[few["row"]][:, None], few["label"])
        self.prior = raw * scale.coef_[0, 0] + scale.intercept_[0]
        self.test.select("row", "user_index", "label").with_columns(
            prior=pl.Series(self.prior[self.test["row"]])
        ).write_parquet(self.folder / "test.parquet")

    def keep(self, arm: str, logits: np.ndarray, **more: np.ndarray) -> None:
        """Keep an arm's logits of the test rows, and print its AUC."""
        np.savez(self.folder / f"{arm}.npz", logits=logits, **more)
        print(arm, round(float(roc_auc_score(self.test["label"], logits)), 4), flush=True)

    def regress_on_texts(self) -> None:
        """Keep logits of a regression on vectors of texts beside the prior, penalised as validation rows prefer."""
        rows = {use: self.learning.filter(use=use) for use in ("few_shot", "validation")} | {"test": self.test}
        text = {use: text_features(self.log, self.log.samples[own["row"]]) for use, own in rows.items()}
        spread = text["few_shot"].std(axis=0) + 1e-9
        inputs = {
            use: np.hstack([self.prior[own["row"]][:, None] * 100, text[use] / spread]) for use, own in rows.items()
        }  # the prior is hardly penalised
        found = []
        for penalty in TEXT_PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=2000).fit(inputs["few_shot"], rows["few_shot"]["label"])
            auc = roc_auc_score(rows["validation"]["label"], model.decision_function(inputs["validation"]))
            found.append((auc, penalty, model.decision_function(inputs["test"])))
        auc, penalty, logits = max(found, key=lambda trial: trial[0])
        print("texts: penalty", penalty, "validation", round(auc, 4))
        self.keep("texts", logits)

    def read_untrained(self) -> None:
        """Keep logits of the prior and the untrained LLM, weighed by few-shot rows."""
        model = answering_model(self.base_llm, self.parameters["prompt"])
        self.prompts = {use: prompt_set(self.learning, use) for use in ("few_shot", "validation")}
        self.prompts["test"] = prompt_set(self.test, "test")
        exchanged = self.test.with_columns(token_ids="retitled_ids").drop_nulls("token_ids")
        exchanged = exchanged.sample(min(RETITLED_ROWS, exchanged.height), seed=1).sort("row")
        self.prompts["titles"] = prompt_set(exchanged, "test")
        self.untrained = {name: model.all_llm_logits(own, 2048, name) for name, own in self.prompts.items()}
        few, test = (
            np.stack([self.prior[self.prompts[name].rows], self.untrained[name]], axis=1)
            for name in ("few_shot", "test")
        )
        regression = LogisticRegression(C=np.inf).fit(few, self.prompts["few_shot"].labels)
        print("untrained: coefficients", regression.coef_.round(3))
        self.keep("untrained", regression.decision_function(test))

    def rest(self, name: str) -> np.ndarray:
        """Return the prior less the untrained LLM's logit, for prompts."""
        return np.asarray(self.prior[self.prompts[name].rows] - self.untrained[name])

    def prompts_of(self, name: str, kind: str) -> PromptSet:
        """Return prompts with their gate inputs, and the rest in the place of the lens's logits."""
        own, states = self.prompts[name], self.states["learning" if name in ("few_shot", "validation") else "test"]
        read = gate_inputs(states, kind)
        place = {row: number for number, row in enumerate(read.rows.tolist())}
        taken = read.take([place[row] for row in own.rows.tolist()])
        return replace(own, gate_inputs=replace(taken, lens_logits=torch.from_numpy(self.rest(name)).float()))

    def train(self, arm: str, seed: int, rate: float) -> tuple[float, AnswerModel]:
        """Train an adapter beside the prior; return its validation AUC and the model."""
        variant = variant_of(self.parameters, "shared_lora" if arm == "shared" else "reclora")
        changed = {"seed": seed, "learning_rate": rate}
        training, kind = variant.training.model_copy(update=changed), "target" if arm == "shared" else arm
        few, validation = (self.prompts_of(use, kind) for use in ("few_shot", "validation"))
        adapter = new_adapter(self.base_llm.model, variant.adapter, few.gate_inputs, seed)
        model = answering_model(self.base_llm.with_model(adapter), self.parameters["prompt"], blend="average")
        log = fine_tune(model, ClicksWithPrior(few), validation, training)
        auc = float(log["validation_auc"].max())
        print(arm, seed, "rate", rate, "validation", round(auc, 4), flush=True)
        return auc, model

    def measure(self, arm: str, seeds: list[int], rates: list[float]) -> None:
        """Keep an arm's logits by each seed, with the rate that the first seed's validation rows prefer."""
        kind = "target" if arm == "shared" else arm
        chosen = rates
        for seed in seeds:
            trained = list[tuple[float, float]]()
            for rate in chosen:
                auc, model = self.train(arm, seed, rate)
                if auc > max((best for best, _ in trained), default=0.0):
                    read = {
                        name: model.all_llm_logits(self.prompts_of(name, kind), 2048, name)
                        for name in ("test", "titles")
                    }
                trained.append((auc, rate))
                model.model.unload()
            chosen = [max(trained)[1]]
            exchanged = self.rest("titles") + read["titles"]
            rows = self.prompts["titles"].rows
            self.keep(f"{arm}-{seed}", self.rest("test") + read["test"], exchanged=exchanged, exchanged_rows=rows)


def auc_of(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    """Return the AUC with weights of rows."""
    return float(roc_auc_score(labels, logits, sample_weight=weights))


def summarize(folder: Path, draws: int = 1000) -> list[dict[str, Any]]:
    """Return AUC per arm and differences, with intervals that draw users and, of trained arms, seeds."""
    rows = pl.read_parquet(folder / "test.parquet")
    labels, user = rows["label"].to_numpy(), rows["user_index"].rank("dense").to_numpy() - 1
    logits = {"prior": [rows["prior"].to_numpy()]}
    for arm in ("texts", "untrained", *ADAPTED):
        files = sorted(folder.glob(f"{arm}.npz")) + sorted(folder.glob(f"{arm}-*.npz"))
        if files:
            logits[arm] = [np.load(file)["logits"] for file in files]
    pairs = [(arm, "prior") for arm in logits if arm != "prior"] + [("user", "shared"), ("target", "shared")]
    pairs = [pair for pair in pairs if {*pair} <= {*logits}]
    random, found = np.random.default_rng(0), {pair: [] for pair in pairs}
    users = int(user.max()) + 1
    ones = np.ones(len(rows))
    every = {arm: [auc_of(labels, own, ones) for own in seeds] for arm, seeds in logits.items()}
    for _ in range(draws):
        weights = np.bincount(random.integers(users, size=users), minlength=users)[user].astype(float)
        seeds = random.integers(3, size=3)  # the same of both arms of a pair
        drawn = {
            arm: np.mean([auc_of(labels, own[seed % len(own)], weights) for seed in (seeds if len(own) > 1 else [0])])
            for arm, own in logits.items()
        }
        for one, other in pairs:
            found[one, other].append(drawn[one] - drawn[other])
    table: list[dict[str, Any]] = [
        {"arm": arm, "AUC": np.mean(own).item(), "of each seed": ", ".join(f"{auc:.4f}" for auc in own)}
        for arm, own in every.items()
    ]
    for one, other in pairs:
        low, high = np.quantile(found[one, other], [0.025, 0.975]).tolist()
        verdict = "equal" if max(-low, high) < MARGIN else "higher" if low > 0 else "lower" if high < 0 else "open"
        difference = (np.mean(every[one]) - np.mean(every[other])).item()
        table.append({"arm": f"{one} less {other}", "AUC": difference, "low": low, "high": high, "verdict": verdict})
    for arm in ADAPTED:
        lost = []
        for file in sorted(folder.glob(f"{arm}-*.npz")):
            kept = np.load(file)
            if "exchanged" in kept:
                place = {row: number for number, row in enumerate(rows["row"].to_list())}
                at = np.array([place[row] for row in kept["exchanged_rows"].tolist()])
                own, exchanged = (auc_of(labels[at], of, ones[at]) for of in (kept["logits"][at], kept["exchanged"]))
                lost.append(own - exchanged)
        if lost:
            seeds = ", ".join(f"{auc:.4f}" for auc in lost)
            table.append(
                {"arm": f"{arm}: lost by exchanged titles", "AUC": np.mean(lost).item(), "of each seed": seeds}
            )
    return table


def main() -> None:
    """Run the arms that are asked for, or make the table of what is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base")
    parser.add_argument("--history", default="recent")
    parser.add_argument("--cold", action="store_true", help="test rows of items without a training event only")
    parser.add_argument("--arms", nargs="*", default=list(ADAPTED))
    parser.add_argument("--seeds", nargs="*", type=int, default=[42, 7, 1])
    parser.add_argument("--rates", nargs="*", type=float, default=[2e-3, 3e-4], help="of learning, to choose from")
    parser.add_argument("--rows", type=int, default=4000, help="test rows")
    parser.add_argument("--summarize", action="store_true")
    arguments = parser.parse_args()
    if not arguments.summarize:
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        bootstrap_project(ROOT)
        with KedroSession.create(ROOT, env=arguments.env) as session:
            context = session.load_context()
            trial = Trial(context.catalog, context.params, arguments)
            trial.keep("prior-alone", trial.prior[trial.test["row"]])
            trial.regress_on_texts()
            trial.read_untrained()
            for arm in arguments.arms:
                trial.measure(arm, arguments.seeds, arguments.rates)
    print(markdown(summarize(KEPT / arguments.env), digits=4))


if __name__ == "__main__":
    main()
