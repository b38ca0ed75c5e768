"""Training, scoring, memory and export of the personalized LoRA beside PEFT's LoRA and the usual ways to train.

    make bench-llm
    python benchmarks/llm.py --repetitions 1 --rows 16 --candidates 20 --users 100

The base LLM of conf/base on real prompts of MovieLens-100K; gate inputs are random, which changes no time. Every
measurement runs in a process of its own; what is compared alternates in one process, on the same rows. On a GPU, give
more rows: `--rows 500 --batch-size 125 --tokens-per-batch 32768`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from measuring import peak_gib, reset_peak
from plotly.subplots import make_subplots
from results import publish, timed
from running import Project, open_project, run
from torch import Tensor, nn
from tqdm import tqdm

GATE_DIM = 128
HISTORY = 10
SUFFIX_TOKENS, PREFIX_TOKENS = 25, 150
RECLORA = {"product_of_sums": "RecLoRA, product of sums", "sum_of_products": "RecLoRA, sum of products"}
PEFT, PEFT_LOW = "PEFT LoRA", "PEFT LoRA, its weights in bfloat16"
PRODUCT = "matrix product"
PRODUCT_SIZES = {"cuda": 16384, "cpu": 4096}  # rows and columns of its factors
ENGINE, ENGINE_ONE = "our engine, RecLoRA", "our engine, one LoRA"
TRAINER, PUBLIC = "Trainer, PEFT LoRA", "RecLoRA's public code"
SHARED, UNSHARED = "shared prefix", "unshared"
FLOP_PER_WEIGHT = {"training": 4, "scoring": 2}


def write_work(project: Project, arguments: argparse.Namespace, folder: Path) -> None:
    """Prompts as the pipeline makes them, of recent histories, and the settings of every measuring process."""
    from reclora_kedro.distributed.engine import LOCAL
    from reclora_kedro.history.log import InteractionLog
    from reclora_kedro.history.log_builder import build_log
    from reclora_kedro.history.questions import SPLITS, draw_questions
    from reclora_kedro.history.retrieval import WindowConfig
    from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables
    from reclora_kedro.pipelines.question_nodes import build_prompts

    history, prompt = project.parameters["history"], project.parameters["prompt"]
    raw = {f"raw_{table}": project.load(f"raw_{table}") for table in ("interactions", "items", "item_texts", "users")}
    interactions, items, users, _ = build_canonical_tables(**raw, config=project.parameters["ingestion"], engine=LOCAL)
    log = build_log(interactions, items, users, history, LOCAL)
    assert isinstance(log, InteractionLog)
    questions = draw_questions(log.samples, SPLITS, history.prompt_rows, history.seed)
    recent = log.histories(questions, WindowConfig(kind="recent", k=HISTORY))
    llm, template = project.load("base_llm"), project.load(f"{prompt.template}.prompt_template")
    prompts, _ = build_prompts(llm, template, log, questions, {"events": recent}, prompt, "")
    prompts.write_parquet(folder / "prompts.parquet")
    variant = project.parameters["finetuning"]["variants"]["reclora"]
    adapter = {"num_meta_loras": 16, "r": 8, "target_modules": ["q_proj", "v_proj"], "last_layers": None}
    training = {
        "epochs": 1,
        "batch_size": arguments.batch_size,
        "tokens_per_batch": arguments.tokens_per_batch,
        "gradient_checkpointing": False,
    }
    settings = {
        "llm": llm.arguments,
        "prompt": prompt.model_dump(),
        "adapter": asdict(variant.adapter) | adapter,
        "training": variant.training.model_copy(update=training).model_dump(),
        "repetitions": arguments.repetitions,
        "rows": arguments.rows,
        "candidates": arguments.candidates,
        "users": arguments.users,
    }
    (folder / "settings.json").write_text(json.dumps(settings))


@dataclass(frozen=True)
class Work:
    """What a measuring process works on; the only place that calls the project."""

    folder: Path
    settings: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Work":
        """What `write_work` has left in a folder."""
        return cls(folder, json.loads((folder / "settings.json").read_text()))

    def base(self, dtype: str | None = None) -> Any:
        """A base LLM of its own that answers, in the type of conf/base or another one."""
        from reclora_kedro.llm.answer_model import AnswerModel
        from reclora_kedro.llm.language_model import load_language_model
        from reclora_kedro.llm.prompts import PromptConfig, prompt_format

        llm = load_language_model(**self.settings["llm"])
        if dtype is not None:
            llm = llm.with_model(llm.model.to(getattr(torch, dtype)))
        answers = prompt_format(llm.tokenizer, PromptConfig.model_validate(self.settings["prompt"]))
        return AnswerModel(llm, answers)

    def prompts(self, use: str, rows: int) -> Any:
        """The first prompts of a use, with random gate inputs."""
        from reclora_kedro.gate_inputs import GateInputs
        from reclora_kedro.llm.prompt_set import PromptSet

        prompts = pl.read_parquet(self.folder / "prompts.parquet").filter(pl.col("use") == use)[:rows]
        if prompts.height < rows:
            sys.exit(
                f"there are {prompts.height} prompts of use {use}, {rows} are needed: lower --rows or --candidates"
            )
        values = torch.randn(rows, GATE_DIM, generator=torch.Generator().manual_seed(0))
        inputs = GateInputs(torch.arange(rows), "user", values, torch.zeros(rows))
        labels = prompts["label"].to_numpy()
        return PromptSet(prompts["row"].to_numpy(), prompts["token_ids"].to_list(), labels, inputs)

    def candidates(self, count: int) -> Any:
        """Prompts with one gate input and `PREFIX_TOKENS` in common, each with the end of a real prompt behind them."""
        prompts = self.prompts("test", count)
        prefix = (prompts.token_ids[0] + prompts.token_ids[1])[:PREFIX_TOKENS]
        token_ids = [prefix + ids[-SUFFIX_TOKENS:] for ids in prompts.token_ids]
        return replace(prompts, token_ids=token_ids, gate_inputs=prompts.gate_inputs.take([0] * count))

    def adapter_config(self, **changes: Any) -> Any:
        """The personalized LoRA of this benchmark, but for some changes."""
        from reclora_kedro.adapters.reclora.settings import RecLoraSettings

        return RecLoraSettings(**self.settings["adapter"] | changes)

    def training_config(self) -> Any:
        """Training as in conf/base, of one epoch in this benchmark's batches."""
        from reclora_kedro.finetuning.config import TrainingConfig

        return TrainingConfig.model_validate(self.settings["training"])

    def reclora(self, dtype: str | None = None, **changes: Any) -> Any:
        """A base LLM with a personalized LoRA whose update is not zero."""
        from reclora_kedro.adapters.methods import new_adapter

        base, inputs = self.base(dtype), self.prompts("few_shot", self.settings["rows"]).gate_inputs
        adapted = new_adapter(base.model, self.adapter_config(**changes), inputs.to(base.device), seed=0)
        for layer in adapted.base_model.adapted_layers(adapted.active_adapter):
            nn.init.normal_(layer.reclora_B[adapted.active_adapter], std=0.02)
        return replace(base, llm=base.llm.with_model(adapted))

    def peft_lora(self, dtype: str | None = None, float32: bool = True) -> Any:
        """A base LLM with PEFT's LoRA of the same sizes, in float32 as by default there, or in the LLM's type."""
        from peft import LoraConfig, get_peft_model

        base, config = self.base(dtype), self.adapter_config()
        lora = LoraConfig(
            task_type="CAUSAL_LM", r=config.r, lora_alpha=config.lora_alpha, target_modules=config.target_modules
        )
        adapted = get_peft_model(base.model, lora, autocast_adapter_dtype=float32)
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weights, std=0.02)
        return replace(base, llm=base.llm.with_model(adapted))

    def train(self, model: Any, prompts: Any) -> None:
        """One epoch by the project's engine, without its validations."""
        from reclora_kedro.finetuning import training
        from reclora_kedro.finetuning.objectives.click import Clicks

        with mock.patch.object(training, "validate", return_value={}):
            training.train_adapter(model, Clicks(prompts), prompts, self.training_config())

    def score(self, model: Any, prompts: Any) -> np.ndarray:
        """Scores by the project's engine."""
        model.model.eval()
        return model.scores(prompts, self.settings["training"]["tokens_per_batch"], "score")

    def score_shared(self, model: Any, prompts: Any) -> np.ndarray:
        """Scores of prompts of one user, their common start run once."""
        from reclora_kedro.llm.shared_prefix import score_candidates

        model.model.eval()
        budget = self.settings["training"]["tokens_per_batch"]
        return score_candidates(model, prompts, np.zeros(len(prompts.labels)), budget)

    def export(self, model: Any, inputs: Tensor) -> None:
        """LoRAs of as many users as there are gate inputs, written to a folder that is removed again."""
        from reclora_kedro.adapters.methods import user_loras

        with tempfile.TemporaryDirectory(dir=self.folder) as target:
            user_loras(model.model, inputs.to(model.device), list(range(len(inputs)))).save(Path(target) / "users")


def plain(prompts: Any) -> Any:
    """The prompts without gate inputs, for adapters without gates."""
    return replace(prompts, gate_inputs=None)


def weights_per_token(model: Any) -> int:
    """Weights of the transformer layers: all but the embeddings and the head."""
    parameters = model.model.get_decoder().layers.named_parameters()
    return sum(weights.numel() for name, weights in parameters if "lora" not in name)


def alternate(works: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each work, one after another and again, after all have run once unmeasured."""
    for work in works.values():
        timed(work)[1]
    turns = [{name: timed(work)[1] for name, work in works.items()} for _ in range(repetitions)]
    return {name: [turn[name] for turn in turns] for name in works}


def matrix_product(model: Any) -> tuple[Callable[[], Tensor], float]:
    """A large product in the type of the LLM, and its floating-point operations."""
    size = PRODUCT_SIZES[model.device.type]
    left, right = (torch.randn(size, size, device=model.device).to(model.model.dtype) for _ in range(2))
    return lambda: left @ right, 2 * size**3


def measure_adapters(work: Work) -> list[dict[str, Any]]:
    """Training and scoring of each adapter under the same engine, and a large matrix product beside them."""
    few_shot, test = work.prompts("few_shot", work.settings["rows"]), work.prompts("test", 2 * work.settings["rows"])
    systems = {name: (work.reclora(composition=composition), few_shot, test) for composition, name in RECLORA.items()}
    systems[PEFT] = work.peft_lora(), plain(few_shot), plain(test)
    model, _, _ = systems[PEFT]
    product, product_flop = matrix_product(model)
    training = {name: partial(work.train, model, rows) for name, (model, rows, _) in systems.items()}
    low = work.peft_lora(float32=False)  # for scoring alone: trained in bfloat16, a LoRA learns worse
    systems[PEFT_LOW] = low, plain(few_shot), plain(test)
    scoring = {name: partial(work.score, model, rows) for name, (model, _, rows) in systems.items()}
    return [
        {
            "work": what,
            "rows": len(rows.labels),
            "tokens": int(rows.lengths.sum()),
            "flop": FLOP_PER_WEIGHT[what] * weights_per_token(model) * int(rows.lengths.sum()),
            "product flop": product_flop,
            "seconds": alternate(works | {PRODUCT: product}, work.settings["repetitions"]),
        }
        for what, works, rows in (("training", training, few_shot), ("scoring", scoring, test))
    ]


def measure_recipes(work: Work) -> list[dict[str, Any]]:
    """Training of the same rows by our engine, by transformers' Trainer, and one by one as the public code does it."""
    from opponents.public_reclora import PublicReclora
    from opponents.trainer import answered, ordinary_trainer

    few_shot, config = work.prompts("few_shot", work.settings["rows"]), work.training_config()
    authors = {"composition": "product_of_sums", "gate_norm": "layer"}
    ours, one, peft = work.reclora(**authors), work.reclora(num_meta_loras=1), work.peft_lora()
    public = PublicReclora(work.base().model, ours.model, work.adapter_config(**authors), config.learning_rate)
    for opponent in (peft, public):
        opponent.model.set_attn_implementation("sdpa")  # as transformers has it; ours is a part of the engine
    answers = ours.prompt_format.negative, ours.prompt_format.positive
    rows = [answered(ids, label, answers) for ids, label in zip(few_shot.token_ids, few_shot.labels, strict=True)]
    inputs = few_shot.gate_inputs.values.to(ours.device)
    size = config.batch_size
    trainer = ordinary_trainer(
        peft.model, peft.llm.tokenizer, rows, size, config.learning_rate, work.folder / "trainer"
    )

    def train_one_by_one() -> None:
        for start in range(0, len(rows), size):
            public.step(rows[start : start + size], inputs[start : start + size])

    works = {
        ENGINE: lambda: work.train(ours, few_shot),
        ENGINE_ONE: lambda: work.train(one, plain(few_shot)),
        TRAINER: trainer.train,
        PUBLIC: train_one_by_one,
    }
    tokens = int(few_shot.lengths.sum())
    seconds = alternate(works, work.settings["repetitions"])
    return [{"work": "recipe", "rows": len(rows), "tokens": tokens, "seconds": seconds}]


def measure_candidates(work: Work) -> list[dict[str, Any]]:
    """One user's candidates, their common start run once and run for each."""
    prompts, model = work.candidates(work.settings["candidates"]), work.reclora()
    works = {
        SHARED: lambda: work.score_shared(model, prompts),
        UNSHARED: lambda: work.score(model, prompts),
    }
    tokens = int(prompts.lengths.sum())
    seconds = alternate(works, work.settings["repetitions"])
    return [{"work": "candidates", "rows": len(prompts.labels), "tokens": tokens, "seconds": seconds}]


def measure_export(work: Work) -> list[dict[str, Any]]:
    """Users' LoRAs of either composition; of the larger one fewer users, since each is N times as large."""
    records = []
    for composition, name in RECLORA.items():
        model = work.reclora(composition=composition)
        large = composition == "sum_of_products"
        users = max(1, work.settings["users"] // (model.model.active_peft_config.num_meta_loras if large else 1))
        inputs = torch.randn(users, GATE_DIM, generator=torch.Generator().manual_seed(0))
        works = {name: partial(work.export, model, inputs)}
        seconds = alternate(works, work.settings["repetitions"])
        records.append({"work": "export", "rows": users, "seconds": seconds})
    return records


def measure_memory(work: Work, system: str) -> list[dict[str, Any]]:
    """Peak memory of an epoch by our engine: resident, or on the GPU."""
    few_shot = work.prompts("few_shot", work.settings["rows"])
    if system == PEFT:
        model, few_shot = work.peft_lora(), plain(few_shot)
    else:
        model = work.reclora(composition=next(name for name, title in RECLORA.items() if title == system))
    reset_peak()
    work.train(model, few_shot)
    on_gpu = model.device.type == "cuda"
    gib = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else peak_gib()
    return [{"work": "memory", "system": system, "GiB": gib}]


@torch.inference_mode()
def measure_agreement(work: Work) -> list[dict[str, Any]]:
    """Largest difference of answer logits between ways that should agree, in float32."""
    return [
        {"work": "agreement", "check": check, "difference": (one - other).abs().max().item()}
        for check, one, other in agreements(work)
    ]


def agreements(work: Work) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Each check, with the answer logits of its two sides."""
    from opponents.public_reclora import PublicReclora
    from peft import PeftModel

    from reclora_kedro.adapters.methods import user_loras

    prompts, candidates = work.prompts("test", 4), work.candidates(12)
    peft, one = work.peft_lora("float32"), work.reclora("float32", num_meta_loras=1)
    loras = [module for module in peft.model.modules() if "default" in getattr(module, "lora_A", {})]
    for layer, lora in zip(one.model.base_model.adapted_layers("default"), loras, strict=True):
        layer.reclora_A["default"][0] = lora.lora_A["default"].weight
        layer.reclora_B["default"][:, 0] = lora.lora_B["default"].weight
    form = one.prompt_format
    yield (
        "RecLoRA of one meta-LoRA, PEFT's LoRA",
        logit(work.score(one, plain(prompts))),
        torch.stack([answer(form, peft.model.eval()(**one_prompt(peft, ids)).logits) for ids in prompts.token_ids]),
    )
    authors = {"composition": "product_of_sums", "gate_norm": "layer"}
    ours = work.reclora("float32", **authors)
    public = PublicReclora(work.base("float32").model, ours.model, work.adapter_config(**authors), 1e-3)
    public.model.eval()
    rows = zip(prompts.token_ids, prompts.gate_inputs.values.to(ours.device), strict=True)
    by_rows = torch.stack([answer(form, public.logits(ids, inputs)) for ids, inputs in rows])
    yield "our RecLoRA, its public code", logit(work.score(ours, prompts)), by_rows
    mixed = work.reclora("float32")
    yield (
        "shared prefix, unshared",
        logit(work.score_shared(mixed, candidates)),
        logit(work.score(mixed, candidates)),
    )
    with tempfile.TemporaryDirectory(dir=work.folder) as target:
        exported = user_loras(mixed.model, candidates.gate_inputs.values[:1].to(mixed.device), ["0"])
        exported.save(Path(target) / "users")
        served = work.base("float32")
        of_user = PeftModel.from_pretrained(served.model, str(Path(target) / "users" / "user_0"))
        served = replace(served, llm=served.llm.with_model(of_user))
        yield (
            "an exported user's LoRA in PEFT, RecLoRA",
            logit(work.score(served, plain(candidates))),
            logit(work.score(mixed, candidates)),
        )


def logit(scores: np.ndarray) -> Tensor:
    """Logits of scores."""
    return torch.logit(torch.from_numpy(scores))


def one_prompt(model: Any, token_ids: list[int]) -> dict[str, Tensor]:
    """One prompt as transformers' models take it."""
    return {"input_ids": torch.tensor([token_ids], device=model.device)}


def answer(form: Any, logits: Tensor) -> Tensor:
    """Yes against No at the last position, of logits (1, tokens, vocabulary)."""
    last = logits[0, -1].double().cpu()
    return last[form.positive] - last[form.negative]


MEASUREMENTS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "agreement": measure_agreement,
    "adapters": measure_adapters,
    "recipes": measure_recipes,
    "candidates": measure_candidates,
    "export": measure_export,
    "memory": measure_memory,
}


def speed_table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of everything that was timed; FLOP are those that the LLM's layers need for real tokens."""
    table = []
    for record in records:
        for system, seconds in record.get("seconds", {}).items():
            second = median(seconds)
            entry = {"work": record["work"], "system": system, "seconds": second}
            if system == PRODUCT:
                entry["GFLOP/s"] = record["product flop"] / second / 1e9
            else:
                entry["rows/s"] = record["rows"] / second
                entry["tokens/s"] = record["tokens"] / second if "tokens" in record else None
                entry["GFLOP/s"] = record["flop"] / second / 1e9 if "flop" in record else None
            table.append(entry)
    columns = ("work", "system", "seconds", "rows/s", "tokens/s", "GFLOP/s")
    return [{column: entry.get(column) for column in columns} for entry in table]


def ratio_table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratios of the median seconds of two systems, and those of the pairs that ran one after the other."""
    by_work = {record["work"]: record for record in records}
    adapters = list(RECLORA.values())
    training, scoring, recipe, shared = (by_work[work] for work in ("training", "scoring", "recipe", "candidates"))
    rows = [ratio(training, f"time of training, {ours} / PEFT's", ours, PEFT) for ours in adapters]
    rows += [ratio(scoring, f"time of scoring, {ours} / PEFT's", ours, PEFT) for ours in adapters]
    rows += [ratio(recipe, f"times faster than the Trainer: {ours}", TRAINER, ours) for ours in (ENGINE, ENGINE_ONE)]
    rows.append(ratio(recipe, f"times faster than the public code: {ENGINE}", PUBLIC, ENGINE))
    for record, ours in product((scoring, training), adapters):
        name = f"FLOP/s of {record['work']} / a matrix product's, {ours}"
        rows.append(ratio(record, name, PRODUCT, ours, record["flop"] / record["product flop"]))
    name = f"times faster with a shared prefix, {shared['rows']} candidates"
    return [*rows, ratio(shared, name, UNSHARED, SHARED)]


def ratio(record: dict[str, Any], measure: str, above: str, below: str, scale: float = 1) -> dict[str, Any]:
    one, other = record["seconds"][above], record["seconds"][below]
    pairs = [scale * a / b for a, b in zip(one, other, strict=True)]
    return {
        "measure": measure,
        "measured": scale * median(one) / median(other),
        "single pairs": f"{median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})",
    }


def agreement_table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How far apart the answer logits of two ways are that should agree."""
    return [
        {"these agree": record["check"], "largest difference of logits": f"{record['difference']:.1e}"}
        for record in records
        if record["work"] == "agreement"
    ]


def memory_table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Peak memory of training by system."""
    return [{"system": r["system"], "peak GiB": r["GiB"]} for r in records if r["work"] == "memory"]


def plot(speeds: list[dict[str, Any]]) -> go.Figure:
    """Rows per second of every system, by work."""
    works = list(dict.fromkeys(entry["work"] for entry in speeds))
    figure = make_subplots(rows=1, cols=len(works), subplot_titles=works)
    for column, work in enumerate(works, start=1):
        part = [entry for entry in speeds if entry["work"] == work and entry["rows/s"] is not None]
        x = [entry["system"] for entry in part]
        figure.add_bar(x=x, y=[entry["rows/s"] for entry in part], showlegend=False, row=1, col=column)
    figure.update_yaxes(title="rows per second", rangemode="tozero", col=1)
    return figure


def main() -> None:
    """Measure, then show and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose base LLM, prompts and data are used")
    parser.add_argument("--repetitions", type=int, default=5, help="of everything timed, in turns")
    parser.add_argument("--rows", type=int, default=64, help="rows trained per repetition; twice as many are scored")
    parser.add_argument("--batch-size", type=int, default=16, help="rows per optimiser step")
    parser.add_argument("--tokens-per-batch", type=int, default=2048, help="most tokens in one forward pass")
    parser.add_argument("--candidates", type=int, default=100, help="candidates of the user")
    parser.add_argument("--users", type=int, default=1000, help="users whose LoRAs are exported")
    parser.add_argument("--threads", type=int, default=2, help="of every measuring process")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, folder, *rest = arguments.measure
        print(json.dumps(MEASUREMENTS[name](Work.open(Path(folder)), *rest)))
        return
    torch.set_num_threads(arguments.threads)  # what the results name
    with tempfile.TemporaryDirectory() as folder:
        write_work(open_project(arguments.env), arguments, Path(folder))

        def measure(name: str, *rest: str) -> list[dict[str, Any]]:
            return run([sys.executable, __file__, "--measure", name, folder, *rest], arguments.threads)

        plan = [[name] for name in ("agreement", "adapters", "recipes", "candidates", "export")]
        plan += [["memory", system] for system in (*RECLORA.values(), PEFT)]
        records = [record for step in tqdm(plan, desc="measurements", disable=None) for record in measure(*step)]
    speeds = speed_table(records)
    tables = {
        "Ratios": ratio_table(records),
        "Speed": speeds,
        "Peak memory of training": memory_table(records),
        "Agreement, in float32": agreement_table(records),
    }
    publish("llm", tables, plot(speeds))


if __name__ == "__main__":
    main()
