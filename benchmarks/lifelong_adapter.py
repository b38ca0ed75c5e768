"""What it is worth that the adapter of an LLM goes on learning: MovieLens-100K, two blocks by time, few rows of each.

    make bench-lifelong
    python benchmarks/lifelong_adapter.py --scored 300

Lens and adapter are trained before the first block of `benchmarks/lifelong.py`. Before each of the next two blocks, the
lens stays or goes on learning, and so does the adapter: with `adapter` beside the lens as it was, with `both` beside
the one that learned, by each safeguard; what validation prefers among these goes on. All policies read current
histories and score the same rows.
"""

import argparse
from collections.abc import Iterator
from itertools import islice

import polars as pl
from lifelong import BLOCKS, LOGS, auc_by_block, blocks_of, draw, even_blocks, read_tables
from results import publish
from running import Project, open_project

from reclora_kedro.adapters.methods import new_adapter
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.evaluation.records import Record, Records
from reclora_kedro.evaluation.scores import align_scores
from reclora_kedro.evaluation.significance import bootstrap_auc, compare_models
from reclora_kedro.finetuning.config import AdapterContinuationConfig
from reclora_kedro.finetuning.continuation import START, continuations, trained_weights
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.growth import continue_lens, grow_lens
from reclora_kedro.lens.training import fit_lens
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.optimization import assign, copy_of
from reclora_kedro.pipelines.question_nodes import assemble_histories, build_prompts, compute_gate_inputs
from reclora_kedro.update.adapters import learned_rows, update_questions

VARIANT = "reclora"
AS_IT_WAS, LENS, ADAPTER, BOTH = "as it was", "lens", "adapter", "both"


class FollowedAdapter:
    """The adapter of an LLM that goes on learning before each block, and what its policies scored.

    Args:
        project: an environment.
        arguments: of the script.
    """

    def __init__(self, project: Project, arguments: argparse.Namespace) -> None:
        self.parameters, self.arguments = project.parameters, arguments
        self.base_llm = project.load("base_llm")
        self.template = project.load(f"{self.parameters['prompt'].template}.prompt_template")
        self.variant = self.parameters["finetuning"]["variants"][VARIANT]
        config = AdapterContinuationConfig(**self.parameters["update"]["adapter"])
        self.config = config.model_copy(update={"validation": arguments.validation})
        self.scores: list[pl.DataFrame] = []
        self.costs: list[Record] = []

    def ask(self, log: InteractionLog, since: int, few_shot: int) -> pl.DataFrame:
        """Prompts of the rows to learn from, later than a second, of those to validate on, and of those to score."""
        history, sizes = self.parameters["history"], self.config.model_copy(update={"few_shot": few_shot})
        known = log.samples.filter(pl.col("timestamp") <= since).select("user_index", "timestamp")
        questions = update_questions(log.samples, known, sizes, self.arguments.scored, history.seed)
        short = assemble_histories(log, questions, history, self.variant)[self.variant.history]
        unknown = self.parameters["ingestion"].items.missing_title
        config = self.parameters["prompt"]
        return build_prompts(self.base_llm, self.template, log, questions, short, config, unknown)[0]

    def train(self, log: InteractionLog, lens: Lens, prompts: pl.DataFrame) -> None:
        """Train the first adapter."""
        read = compute_gate_inputs(lens, log, prompts, self.variant, LOCAL)
        training = self.variant.training
        adapter = new_adapter(self.base_llm.model, self.variant.adapter, read, training.seed)
        self.model = answering_model(self.base_llm.with_model(adapter), self.parameters["prompt"])
        fresh = self.config.model_copy(update={"safeguard": ("none",), "learning_rate": training.learning_rate})
        for _ in continuations(self.model, *learned_rows(prompts, read), fresh, training):
            self.kept = dict.fromkeys((AS_IT_WAS, ADAPTER, BOTH), copy_of(trained_weights(self.model)))

    def update(self, log: InteractionLog, first: Lens, lens: Lens, prompts: pl.DataFrame, block: int) -> None:
        """Score a block by each policy.

        Args:
            log: the log at the end of the block.
            first: the lens as it was before the first block.
            lens: the one that went on learning.
            prompts: see `ask`.
            block: its number.
        """
        for policy, reader in ((AS_IT_WAS, first), (LENS, lens)):
            assign(trained_weights(self.model), self.kept[AS_IT_WAS])
            self.score(log, reader, prompts, block, policy)
        for policy, reader in ((ADAPTER, first), (BOTH, lens)):
            best_auc = -1.0
            assign(trained_weights(self.model), self.kept[policy])
            for safeguard, auc in self.learn(log, reader, prompts, block, policy):
                if auc > best_auc:
                    best_auc, self.kept[policy] = auc, copy_of(trained_weights(self.model))
                if safeguard != START:
                    self.score(log, reader, prompts, block, f"{policy}, {safeguard}")

    def learn(
        self, log: InteractionLog, lens: Lens, prompts: pl.DataFrame, block: int, policy: str
    ) -> Iterator[tuple[str, float]]:
        """Each safeguard and its validation AUC, while the model has its weights."""
        config = self.config.model_copy(update={"safeguard": ("none",)} if policy == ADAPTER else {})
        rows = learned_rows(prompts, compute_gate_inputs(lens, log, prompts, self.variant, LOCAL))
        for log_of_one in continuations(self.model, *rows, config, self.variant.training):
            safeguard = log_of_one["safeguard"][0]
            auc = log_of_one["validation_auc"].drop_nulls().to_numpy().max()
            measured = {"rows": log_of_one["rows"].max(), "seconds": log_of_one["seconds"].max()}
            record = {"block": block, "policy": policy, "safeguard": safeguard, "validation_auc": auc}
            self.costs.append(record | measured)
            yield safeguard, auc

    def score(self, log: InteractionLog, lens: Lens, prompts: pl.DataFrame, block: int, policy: str) -> None:
        """Keep the model's scores of a block's rows."""
        rows = prompts.filter(use="test")
        questions = prompt_set(rows, "test", compute_gate_inputs(lens, log, rows, self.variant, LOCAL))
        scores = self.model.scores(questions, self.parameters["scoring"].tokens_per_batch, policy)
        table = rows.select(
            "label",
            row=pl.int_range(pl.len()) + block * rows.height,
            user="user_index",
            block=block,
            start=pl.col("timestamp").min(),
            model=pl.lit(policy),
        )
        self.scores.append(table.with_columns(score=scores))


def follow(project: Project, arguments: argparse.Namespace) -> FollowedAdapter:
    """Update lens and adapter before each block but the first, and score it."""
    followed, since = FollowedAdapter(project, arguments), -1
    tables = read_tables(project)
    blocks = islice(blocks_of(tables, project, even_blocks(tables, BLOCKS)), arguments.blocks)
    for block, log in enumerate(blocks, start=1):
        prompts = followed.ask(log, since, arguments.few_shot if block == 1 else arguments.new)
        if block == 1:
            first, _ = fit_lens(log, project.parameters["lens"])
            lens = first
            followed.train(log, first, prompts)
        else:
            first, (lens, _) = grow_lens(first, log), continue_lens(lens, log, project.parameters["update"]["lens"])
            followed.update(log, first, lens, prompts, block)
        since = int(log.samples.filter(split="test")["timestamp"].to_numpy().min()) - 1
    return followed


def main() -> None:
    """Measure, print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", choices=LOGS, default="movielens-100k")
    parser.add_argument("--blocks", type=int, default=3, help="the first of which nothing is updated before")
    parser.add_argument("--few-shot", type=int, default=192, help="rows that the first adapter learns from")
    parser.add_argument("--new", type=int, default=64, help="new rows that each update of it learns from")
    parser.add_argument("--validation", type=int, default=64, help="rows that choose an adapter")
    parser.add_argument("--scored", type=int, default=150, help="rows of a block that are scored")
    arguments = parser.parse_args()
    project = open_project(LOGS[arguments.log])
    followed, bootstrap = follow(project, arguments), project.parameters["bootstrap"]
    scores = pl.concat(followed.scores)
    by_block = [{"log": arguments.log, **record} for record in auc_by_block(scores, bootstrap)]
    pairs = compare_models(bootstrap_auc(align_scores(scores), bootstrap), bootstrap.confidence)
    tables: dict[str, Records] = {
        "AUC per block": by_block,
        "Differences, all blocks": pairs,
        "Updates of the adapter": followed.costs,
    }
    publish("lifelong_adapter", tables, draw(by_block), digits=4)


if __name__ == "__main__":
    main()
