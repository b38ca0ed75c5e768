"""What the LLM adds to the lens: models over data sets, seeds and numbers of few-shot rows, on whole splits.

    make bench-quality
    python benchmarks/quality.py --environments base --seeds 42 --few-shot 512 --split validation

Choices are made with `--split validation`; the test split is for the table that is reported. Every model's scores are
kept under data/08_reporting/benchmarks/quality/, and what is there is not computed again: a run that was stopped goes
on, and `--models` adds some. All adapters are in the last layer, so what comes before it is computed once per prompt.
"""

import argparse
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from frozen_layers import LastLayer, with_frozen_layers
from plotly.subplots import make_subplots
from results import FOLDER, publish
from running import ROOT, Project, open_project
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from reclora_kedro.adapters.reclora.build import new_adapter
from reclora_kedro.evaluation.metrics import compute_metrics
from reclora_kedro.evaluation.scores import align_scores
from reclora_kedro.evaluation.significance import bootstrap_auc, compare_models
from reclora_kedro.finetuning.training import train_adapter
from reclora_kedro.finetuning.variants import GateInput, gate_inputs, with_few_shot
from reclora_kedro.histories.item_text import describe_items, principal_components
from reclora_kedro.histories.log import InteractionLog, build_log
from reclora_kedro.histories.rating_statistics import RatingStatistics
from reclora_kedro.histories.records import prompt_records
from reclora_kedro.histories.splits import select_prompt_rows
from reclora_kedro.interactions.cleaning import clean_interactions, describe_users
from reclora_kedro.interactions.cleaning import describe_items as canonical_items
from reclora_kedro.lens.crossfit import few_shot_states
from reclora_kedro.lens.states import lens_scores, lens_states
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.embedding import embed_texts
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptSet, prompt_set
from reclora_kedro.llm.prompts import build_prompts, prompt_format

AVERAGE = "average of shared_lora and lens"
STATISTICS = "logistic regression of rating_statistics"
STATISTICS_AVERAGE = "average of that regression and lens"
VALIDATION_ROWS = 4000  # rows of the validation split, evenly spread over time, that choices are made with
TRAINING = {"rows_per_validation": 10**9}  # validated at the end alone: there is nothing to choose
ROWS_AT_THE_END = 64  # of that validation
TOKENS_PER_BATCH = 40_000  # of a single layer
BOOTSTRAP_SAMPLES = 2_000  # draws of users that p-values are made of
CONFIDENCE = 0.95
IN_NAME = {"none": "", "prior": ", prior", "in_sample": "", "cross_fitted": ", cross-fitted"}
# By name: what gates read, what else differs from the adapter `reclora` of conf/, and which lens states the few-shot
# rows have.
MODELS: dict[str, tuple[GateInput, dict[str, Any], str]] = {
    "shared_lora": ("target", {"num_meta_loras": 1}, "in_sample"),
    "shared_lora, prior": ("target", {"num_meta_loras": 1, "lens_in_score": "prior"}, "in_sample"),
    "shared_lora, prior, cross-fitted": ("target", {"num_meta_loras": 1, "lens_in_score": "prior"}, "cross_fitted"),
    **{
        f"reclora {read}{IN_NAME[joins]}{IN_NAME[fitted]}": (read, {"lens_in_score": joins}, fitted)
        for read in get_args(GateInput)
        for joins in ("none", "prior")
        for fitted in ("in_sample", "cross_fitted")
        if (read, joins, fitted) != ("rating_statistics", "none", "cross_fitted")  # the lens plays no part there
    },
    "reclora target, average, cross-fitted": ("target", {"lens_in_score": "average"}, "cross_fitted"),
    "reclora rating_statistics, average": ("rating_statistics", {"lens_in_score": "average"}, "in_sample"),
}


class Draw(NamedTuple):
    """One seed's prompts with the LLM that has read them, and what gates read of them.

    ``states`` are the lens's, by where the few-shot rows have theirs from; ``statistics`` are rating statistics.
    """

    prompts: pl.DataFrame
    llm: LastLayer
    states: dict[str, dict[str, Tensor]]
    statistics: pl.DataFrame

    def prompt_set(self, use: str, read: GateInput, fitted: str) -> PromptSet:
        """The prompts of one use, with what gates read."""
        return prompt_set(self.prompts, use, gate_inputs(self.states[fitted], self.statistics, read))


def prepare(project: Project, llm: LanguageModel) -> InteractionLog:
    """The log with its item embeddings, which depend on no seed."""
    ingestion, history = project.parameters["ingestion"], project.parameters["history"]
    interactions, _ = clean_interactions(project.load("raw_interactions"), ingestion)
    items, _ = canonical_items(project.load("raw_items"), interactions, ingestion.items)
    users, _ = describe_users(project.load("raw_users"), interactions, ingestion.users)
    config = history.item_embedding
    vectors = embed_texts(llm, describe_items(items), config.max_tokens, config.tokens_per_batch)
    embeddings = principal_components(vectors, config.components, history.seed)
    return build_log(interactions, items, users, history).with_embeddings(embeddings)


def draw_rows(
    environment: str, project: Project, log: InteractionLog, llm: LanguageModel, seed: int, few_shot: int, split: str
) -> Draw:
    """The rows of a seed with all that models read of them, and a lens trained by that seed."""
    parameters = project.parameters
    counts = parameters["history"].prompt_rows.model_copy(
        update={"few_shot": few_shot, "validation": None, "test": None}
    )
    chosen = select_prompt_rows(log.samples, counts, seed)
    parts = {use: chosen.filter(pl.col("use") == use) for use in ("few_shot", "validation", "test")}
    parts = {use: part if use == "few_shot" else part.sort("row") for use, part in parts.items()}
    validated = VALIDATION_ROWS if split == "validation" else ROWS_AT_THE_END
    spread = np.linspace(0, parts["validation"].height - 1, validated).astype(int)
    parts["validation"] = parts["validation"][np.unique(spread)]
    prompts, models = [], []
    for use in dict.fromkeys(["few_shot", "validation", split]):
        prompts.append(write_prompts(project, log, llm, parts[use]))
        token_ids = prompts[-1]["token_ids"].to_list()
        models.append(with_frozen_layers(llm, token_ids, FOLDER / "quality" / environment / "frozen_layers"))
    lens, training_log = fit_lens(log, parameters["lens"].model_copy(update={"seed": seed}))
    read = pl.concat(prompts)
    own = lens_states(lens, log, read["row"].to_numpy())
    of_few = {name: state[(read["use"] == "few_shot").to_torch()] for name, state in own.items()}
    states = {}
    for how in ("in_sample", "cross_fitted"):
        config = parameters["few_shot"].model_copy(update={"lens_states": how})
        fitted, report = few_shot_states(lens, log, of_few, training_log, config)
        states[how] = with_few_shot(own, fitted)
        print(f"{environment}, seed {seed}, {how}: {report[0]}", flush=True)
    statistics = RatingStatistics(log).of(log.samples[read["row"].to_numpy()]).insert_column(0, read["row"])
    return Draw(read, reduce(LastLayer.joined, models), states, statistics)


def write_prompts(project: Project, log: InteractionLog, llm: LanguageModel, rows: pl.DataFrame) -> pl.DataFrame:
    """Prompts of conf/base, of the first history there."""
    parameters = project.parameters
    [window, *_] = (window for window in parameters["history"].short.values() if window is not None)
    records = prompt_records(rows, log, log.histories(log.samples[rows["row"].to_numpy()], window))
    template = (ROOT / "conf" / "base" / "prompt.jinja").read_text(encoding="utf-8")
    return build_prompts(llm.tokenizer, records, template, parameters["prompt"], llm.context_tokens)


def few_rows(prompts: PromptSet, count: int, seed: int) -> PromptSet:
    """Some of the few-shot prompts, drawn by the seed."""
    places = np.sort(np.random.default_rng(seed).permutation(len(prompts.rows))[:count])
    inputs, logits = (None if part is None else part[places] for part in (prompts.gate_inputs, prompts.lens_logits))
    token_ids = [prompts.token_ids[place] for place in places]
    return PromptSet(prompts.rows[places], token_ids, prompts.labels[places], inputs, logits)


def train_and_score(
    parameters: dict[str, Any], draw: Draw, few_shot: int, seed: int, model: str, split: str
) -> np.ndarray:
    """One model's scores of a split, shape (rows,), after training on some of the few-shot rows of the draw."""
    read, changes, fitted = MODELS[model]
    variant, llm = parameters["finetuning"]["variants"]["reclora"], draw.llm
    few, validation, scored = (draw.prompt_set(use, read, fitted) for use in ("few_shot", "validation", split))
    few = few_rows(few, few_shot, seed)
    adapter = replace(variant.adapter, **{"last_layers": 1, "lens_in_score": "none"} | changes)
    adapted = llm.with_model(new_adapter(llm.model, adapter, few.gate_inputs, read, seed))
    answers = AnswerModel(adapted, prompt_format(llm.tokenizer, parameters["prompt"]))
    settings = TRAINING | {"seed": seed, "tokens_per_batch": TOKENS_PER_BATCH}
    training = variant.training.model_copy(update=settings)
    train_adapter(answers, few, few_rows(validation, ROWS_AT_THE_END, seed), training)
    scores = answers.scores(scored, TOKENS_PER_BATCH, model)
    answers.model.unload()
    return scores


def regress(draw: Draw, few_shot: int, seed: int, split: str) -> np.ndarray:
    """Scores of a logistic regression of the rating statistics alone, without an LLM, from the same rows."""
    few, scored = (draw.prompt_set(use, "rating_statistics", "in_sample") for use in ("few_shot", split))
    few = few_rows(few, few_shot, seed)
    assert few.gate_inputs is not None
    assert scored.gate_inputs is not None
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(few.gate_inputs.numpy(), few.labels)
    return fitted.predict_proba(scored.gate_inputs.numpy())[:, 1]


def measure(environment: str, project: Project, arguments: argparse.Namespace) -> None:
    """Every model's scores that are not there yet, as one file each."""
    llm, log, threads = project.load("base_llm"), None, torch.get_num_threads()
    for seed in arguments.seeds:
        draw = None
        for few_shot in arguments.few_shot:
            for model in [*arguments.models, STATISTICS]:
                file = score_file(environment, arguments.split, seed, few_shot, model)
                if file.exists():
                    continue
                log = log or prepare(project, llm)
                if draw is None:
                    torch.set_num_threads(threads)
                    most = max(arguments.few_shot)
                    draw = draw_rows(environment, project, log, llm, seed, most, arguments.split)
                    keep_lens(environment, arguments.split, seed, draw, log)
                torch.set_num_threads(1)  # one layer's products are too small to share
                if model == STATISTICS:
                    scores = regress(draw, few_shot, seed, arguments.split)
                else:
                    scores = train_and_score(project.parameters, draw, few_shot, seed, model, arguments.split)
                scored = draw.prompts.filter(pl.col("use") == arguments.split)
                keep(file, scored.select("row", "label").with_columns(score=pl.Series(scores)))


def score_file(environment: str, split: str, seed: int, few_shot: int | str, model: str) -> Path:
    """Where the scores of one model lie."""
    return FOLDER / "quality" / environment / split / f"{seed}-{few_shot}-{model}.parquet"


def keep(file: Path, scores: pl.DataFrame) -> None:
    """Write scores, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    scores.write_parquet(draft)
    draft.replace(file)


def keep_lens(environment: str, split: str, seed: int, draw: Draw, log: InteractionLog) -> None:
    """Write the lens's own scores of the split, with the users of its rows."""
    states = next(iter(draw.states.values()))
    scores = pl.DataFrame({"row": states["row"].numpy(), "score": lens_scores(states)})
    scored = draw.prompts.filter(pl.col("use") == split).select(pl.col("row").cast(pl.Int64), "label")
    users = log.samples.select(pl.col("row").cast(pl.Int64), user="user_index")
    scored = scored.join(users, on="row", how="left", maintain_order="left")
    keep(score_file(environment, split, seed, "all", "lens"), scored.join(scores, on="row", how="left"))


def read_scores(environment: str, split: str, seed: int, few_shot: int, models: list[str]) -> pl.DataFrame:
    """Scores of the lens, the models that are there, and the plain average of shared LoRA and lens."""
    files = {"lens": score_file(environment, split, seed, "all", "lens")}
    files |= {model: score_file(environment, split, seed, few_shot, model) for model in [*models, STATISTICS]}
    read = {
        model: pl.read_parquet(file).cast({"row": pl.Int64, "label": pl.Int64, "score": pl.Float64})
        for model, file in files.items()
        if file.exists()
    }
    for model, average in (("shared_lora", AVERAGE), (STATISTICS, STATISTICS_AVERAGE)):
        if model in read:
            both = read[model].join(read["lens"].select("row", lens="score"), on="row", maintain_order="left")
            read[average] = both.select("row", "label", score=(pl.col("score") + pl.col("lens")) / 2)
    users = read["lens"].select("row", "user")
    return pl.concat(
        [
            table.select("row", "label", "score", model=pl.lit(model)).join(users, on="row", maintain_order="left")
            for model, table in read.items()
        ]
    )


def summarise(environment: str, arguments: argparse.Namespace, few_shot: int) -> list[dict[str, Any]]:
    """One record per model: means over the seeds, and its AUC less the lens's and the average's, seed by seed."""
    metrics, differences = [], []
    for seed in arguments.seeds:
        paired = align_scores(read_scores(environment, arguments.split, seed, few_shot, arguments.models))
        auc = bootstrap_auc(paired, BOOTSTRAP_SAMPLES, seed)
        metrics += [{"seed": seed, **record} for record in compute_metrics(paired, auc, CONFIDENCE)]
        for pair in compare_models(auc, CONFIDENCE):
            differences.append({"seed": seed, **pair})
            swapped = {"model_a": pair["model_b"], "model_b": pair["model_a"]}
            differences.append({"seed": seed, **pair, **swapped, "auc_difference": -pair["auc_difference"]})
    table = []
    for model in dict.fromkeys(record["model"] for record in metrics):
        own = [record for record in metrics if record["model"] == model]
        row: dict[str, Any] = {
            "model": model,
            "seeds": len(own),
            "AUC": f"{np.mean([record['auc'] for record in own]):.4f}",
            "log loss": f"{np.mean([record['log_loss'] for record in own]):.4f}",
        }
        for rival in ("lens", AVERAGE):
            pairs = [pair for pair in differences if (pair["model_a"], pair["model_b"]) == (model, rival)]
            row[f"- {rival}"] = ", ".join(f"{pair['auc_difference']:+.4f}{star(pair['p_adjusted'])}" for pair in pairs)
        table.append(row)
    return table


def star(p_value: float) -> str:
    """A mark of significant differences."""
    return "*" if p_value < 1 - CONFIDENCE else ""


def plot(tables: dict[str, list[dict[str, Any]]]) -> go.Figure:
    """Mean AUC of every model, one panel per table."""
    figure = make_subplots(rows=len(tables), subplot_titles=list(tables), vertical_spacing=0.04)
    for place, rows in enumerate(tables.values(), start=1):
        auc, models = [float(row["AUC"]) for row in rows], [row["model"] for row in rows]
        figure.add_scatter(x=auc, y=models, mode="markers", showlegend=False, row=place, col=1)
    figure.update_xaxes(title="AUC")
    figure.update_yaxes(autorange="reversed", dtick=1)
    return figure.update_layout(height=sum(150 + 22 * len(rows) for rows in tables.values()))


def main() -> None:
    """Train and score what is not there yet, then show and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", nargs="+", default=["base", "movietweetings"], help="of conf/")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 7, 1], help="of rows, lens and adapter")
    parser.add_argument("--few-shot", nargs="+", type=int, default=[512, 2048], help="numbers of few-shot rows")
    parser.add_argument(
        "--models", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="MODEL", help="which"
    )
    parser.add_argument("--split", choices=["validation", "test"], default="test", help="whose rows are scored, all")
    arguments = parser.parse_args()
    tables = {}
    for environment in arguments.environments:
        measure(environment, open_project(environment), arguments)
        for few_shot in arguments.few_shot:
            title = f"{environment}, {arguments.split} split, {few_shot:,} few-shot rows"
            tables[title] = summarise(environment, arguments, few_shot)
    publish(f"quality-{arguments.split}", tables, plot(tables))


if __name__ == "__main__":
    main()
