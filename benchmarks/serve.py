"""The live service under load: seconds per answer by lens and by LLM, many users, and PEFT's adapter per row.

    make bench-serve
    python benchmarks/serve.py --lens-requests 200 --llm-requests 4

A lens of one epoch and an adapter of random weights, which changes no time, on the data and the base LLM of conf/base.
The service runs in a process of its own; the clients are coroutines of this one, each of which keeps its connection
and asks again as soon as it is answered.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from results import publish
from running import open_project
from torch import nn

CANDIDATES = 20  # of a request
CLIENTS = (1, 4, 16)
USERS = (1, 100, 1000)
ROWS = 64
OURS, ONE_USER, PEFT = "our engine, 64 users", "our engine, one user", "PEFT, adapter_names, 64 users' exported LoRAs"


def build_champion(environment: str) -> Any:
    """A champion of the environment's data, without a run."""
    from reclora_kedro.adapters.methods import new_adapter
    from reclora_kedro.distributed.engine import LOCAL
    from reclora_kedro.histories.item_text import describe_items, principal_components, tfidf_vectors
    from reclora_kedro.histories.log import InteractionLog
    from reclora_kedro.histories.log_builder import build_log
    from reclora_kedro.histories.retrieval import WindowConfig
    from reclora_kedro.interactions.config import IngestionConfig
    from reclora_kedro.lens.states import gate_inputs, lens_states
    from reclora_kedro.lens.training import fit_lens
    from reclora_kedro.llm.answer_model import answering_model
    from reclora_kedro.llm.prompts import PromptBuilder
    from reclora_kedro.pipelines.ingestion.nodes import build_canonical_tables
    from reclora_kedro.recommend.config import RecommendationConfig
    from reclora_kedro.rivals.neighbours import ItemNeighboursConfig
    from reclora_kedro.serving.models import Champion, Llm

    project = open_project(environment)
    parameters, history, prompt = project.parameters, project.parameters["history"], project.parameters["prompt"]
    raw = {f"raw_{table}": project.load(f"raw_{table}") for table in ("interactions", "items", "item_texts", "users")}
    interactions, items, users, _ = build_canonical_tables(**raw, config=parameters["ingestion"], engine=LOCAL)
    log = build_log(interactions, items, users, history, LOCAL)
    assert isinstance(log, InteractionLog)
    words, _ = tfidf_vectors(describe_items(items))
    vectors, _ = principal_components(words, history.item_embedding.components, history.seed)
    log = log.with_embeddings(vectors)
    lens, _ = fit_lens(log, parameters["lens"].model_copy(update={"max_epochs": 1}))
    base_llm, template = project.load("base_llm"), project.load(f"{prompt.template}.prompt_template")
    adapter = parameters["finetuning"]["variants"]["reclora"].adapter
    inputs = gate_inputs(lens_states(lens, log, log.samples.head(ROWS)), "user")
    adapted = new_adapter(base_llm.model, adapter, inputs.to(base_llm.device), seed=0).eval()
    for name, weights in adapted.named_parameters():
        if "reclora_B" in name:
            nn.init.normal_(weights, std=0.02)
    recommendation = {"candidates": "neighbours", "order": "lens", "shortlist": CANDIDATES, "retrieved": CANDIDATES}
    return Champion(
        versions={},
        about={},
        log=log,
        lens=lens,
        retriever=None,
        kind="neighbours",
        order="lens",
        table=None,
        llm=Llm(
            variant="reclora",
            model=answering_model(base_llm.with_model(adapted), prompt),
            prompts=PromptBuilder(base_llm.tokenizer, template, prompt, base_llm.context_tokens),
            window=WindowConfig(kind="recent", k=10),
            gate_input="user",
            tokens_per_batch=parameters["scoring"].tokens_per_batch,
        ),
        ingestion=IngestionConfig.model_validate(parameters["ingestion"]),
        recommendation=RecommendationConfig.model_validate(parameters["recommendation"]).model_copy(
            update=recommendation
        ),
        neighbours=ItemNeighboursConfig.model_validate(parameters["item_neighbours"]),
    )


def serve(environment: str, folder: Path, threads: int) -> None:
    """Measure what needs no HTTP, write it to a folder, then answer on a free port until the process is ended."""
    import uvicorn

    from reclora_kedro.serving.app import create_app
    from reclora_kedro.serving.config import ServiceConfig
    from reclora_kedro.serving.metrics import Metrics
    from reclora_kedro.serving.service import Service

    torch.set_num_threads(threads)
    champion = build_champion(environment)
    block = dict(open_project(environment).parameters["service"]) | {
        "folder": folder / "journal",
        "reload_seconds": None,
    }
    service = Service(ServiceConfig.model_validate(block), lambda: champion, Metrics())
    found = {"rows": measure_rows(champion), "equal": measure_equality(champion)}
    found["users"] = champion.log.users["user_id"].cast(pl.String).to_list()
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="warning"))

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        found["port"] = server.servers[0].sockets[0].getsockname()[1]
        (folder / "found.tmp").write_text(json.dumps(found))
        (folder / "found.tmp").rename(folder / "found.json")
        await serving

    asyncio.run(run())


@torch.inference_mode()
def measure_rows(champion: Any) -> dict[str, list[float]]:
    """Seconds of a batch of rows: of as many users, of one user, and by PEFT with an exported LoRA per row.

    The prompts are the same ones; what differs is whose they are.
    """
    from peft import PeftModel

    from reclora_kedro.adapters.gate_inputs import GateInputs
    from reclora_kedro.adapters.methods import user_loras
    from reclora_kedro.histories.questions import CANDIDATE, questions
    from reclora_kedro.histories.records import prompt_records
    from reclora_kedro.lens.states import gate_inputs, lens_states
    from reclora_kedro.llm.language_model import load_language_model
    from reclora_kedro.llm.prompt_set import prompt_set

    log, llm = champion.log, champion.llm
    users = np.argsort(-np.diff(log.sequences.offsets), kind="stable")[:ROWS].astype(np.int32)
    pairs = pl.DataFrame({"user_index": users, "item_index": np.arange(len(users), dtype=np.int32) % log.items.height})
    asked = questions(log.now(pairs.with_row_index("row")))
    prompts = llm.prompts.build(prompt_records(asked, log, log.histories(asked, llm.window)))
    inputs = gate_inputs(lens_states(champion.lens, log, asked), "user")
    of_one = GateInputs(
        inputs.rows, "user", inputs.values[:1].expand_as(inputs.values).contiguous(), inputs.lens_logits
    )
    device = llm.model.device
    batches = {
        name: prompt_set(prompts, CANDIDATE, values).batch(range(len(users)), device)
        for name, values in ((OURS, inputs), (ONE_USER, of_one))
    }
    works: dict[str, Callable[[], Any]] = {name: partial(llm.model.logits, batch) for name, batch in batches.items()}
    with tempfile.TemporaryDirectory() as folder:
        ids = [str(user) for user in users]
        user_loras(llm.model.model, inputs.values.to(device), ids).save(Path(folder) / "users")
        base = load_language_model(**llm.model.llm.arguments)
        peft = PeftModel.from_pretrained(base.model, f"{folder}/users/user_{ids[0]}", adapter_name=ids[0])
        for user in ids[1:]:
            peft.load_adapter(f"{folder}/users/user_{user}", adapter_name=user)
    batch = batches[OURS]
    mask = (torch.arange(batch.token_ids.shape[1], device=device) <= batch.last[:, None]).long()
    works[PEFT] = lambda: peft.eval()(batch.token_ids, attention_mask=mask, adapter_names=ids, logits_to_keep=1)
    return {name: [seconds_of(work) for _ in range(3)][1:] for name, work in works.items()}


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of some work, to the end of what the GPU has to do for it."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_equality(champion: Any) -> dict[str, float]:
    """Largest difference of the service's scores from those of the recommendation step, for some users."""
    from reclora_kedro.histories.records import prompt_records
    from reclora_kedro.lens.states import gate_inputs, lens_states
    from reclora_kedro.recommend.candidates import candidate_questions, shortlist_candidates
    from reclora_kedro.recommend.sources import current_source
    from reclora_kedro.scoring.prompt_scores import score_prompts
    from reclora_kedro.serving.journal import Content
    from reclora_kedro.serving.live_log import LiveLog
    from reclora_kedro.serving.models import Ask, Snapshot, answer_by_lens, answer_by_llm

    log, llm, users = champion.log, champion.llm, champion.log.users["user_id"].head(3).to_list()
    config = champion.recommendation.model_copy(update={"users": tuple(users), "top_n": CANDIDATES})
    make = partial(current_source, "neighbours", champion.neighbours, None)
    shortlist, _ = shortlist_candidates(champion.lens, log, None, config, "neighbours", "lens", make)
    asked = candidate_questions(log, shortlist)
    prompts = llm.prompts.build(prompt_records(asked, log, log.histories(asked, llm.window)))
    prompts = pl.concat([asked, prompts.drop("row", "use", "label")], how="horizontal")
    inputs = gate_inputs(lens_states(champion.lens, log, asked), "user")
    by_llm = score_prompts(llm.model, prompts, inputs, llm.tokens_per_batch).to_numpy()
    differences = {"lens": 0.0, "llm": 0.0}
    snapshot = Snapshot.take(champion, LiveLog(log, champion.ingestion, Content([], {})))
    for user in users:
        rows = (shortlist["user_id"] == user).to_numpy()
        ask = Ask(rank=False, user=str(user), items=shortlist["item_index"].to_numpy()[rows], model="llm")
        [answer] = answer_by_lens([ask], snapshot)
        differences["lens"] = max(
            differences["lens"], float(np.abs(answer.scores - shortlist["lens_score"].to_numpy()[rows]).max())
        )
        answer_by_llm([answer])
        differences["llm"] = max(differences["llm"], float(np.abs(answer.scores - by_llm[rows]).max()))
    return differences


async def load(port: int, bodies: Sequence[bytes], clients: int) -> list[float]:
    """Seconds of each request, asked by so many clients."""
    waiting, seconds = iter(bodies), list[float]()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            start = time.perf_counter()
            head = "POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            head += f"content-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(f"the service answered {answer.decode()}")
            [length] = [line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.split(b":")[1]))
            seconds.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


def measure_load(port: int, users: Sequence[str], model: str, clients: int, requests: int) -> dict[str, Any]:
    """One row of the tables: requests in turn of these users."""
    bodies = [
        json.dumps({"user": users[place % len(users)], "n": CANDIDATES, "model": model}).encode()
        for place in range(requests)
    ]
    start = time.perf_counter()
    seconds = np.array(asyncio.run(load(port, bodies, clients)))
    return {
        "model": model,
        "clients": clients,
        "users": min(len(users), requests),
        "requests": requests,
        "p50, ms": 1e3 * float(np.quantile(seconds, 0.5)),
        "p95, ms": 1e3 * float(np.quantile(seconds, 0.95)),
        "requests/s": requests / (time.perf_counter() - start),
    }


def target_table(
    by_clients: list[dict[str, Any]], by_users: list[dict[str, Any]], found: dict[str, Any]
) -> list[dict[str, Any]]:
    """Each figure with its target."""
    seconds = {name: median(values) for name, values in found["rows"].items()}
    p95 = next(row["p95, ms"] for row in by_clients if row["model"] == "lens" and row["clients"] == max(CLIENTS))
    rates = [row["requests/s"] for row in by_users]
    rows = [
        ("lens, p95 at 16 clients, ms", p95, "at most", 25),
        ("lens, most requests/s by number of users / least", max(rates) / min(rates), "at most", 1.1),
        ("time of 64 rows, 64 users / one user", seconds[OURS] / seconds[ONE_USER], "at most", 1.2),
        ("time of 64 rows, PEFT's adapter_names / ours", seconds[PEFT] / seconds[OURS], "at least", 5),
        ("largest difference from offline scores, lens", found["equal"]["lens"], "at most", 1e-6),
        ("largest difference from offline scores, LLM", found["equal"]["llm"], "at most", 1e-4),
    ]
    return [
        {
            "measure": measure,
            "measured": f"{value:.3g}",
            "target": f"{bound} {target:g}",
            "reached": "yes" if (value <= target if bound == "at most" else value >= target) else "no",
        }
        for measure, value, bound, target in rows
    ]


def plot(by_clients: list[dict[str, Any]]) -> go.Figure:
    """Requests per second by number of clients."""
    figure = go.Figure()
    for model in ("lens", "llm"):
        part = [row for row in by_clients if row["model"] == model]
        figure.add_bar(x=[str(row["clients"]) for row in part], y=[row["requests/s"] for row in part], name=model)
    return figure.update_layout(xaxis_title="clients", yaxis_title="requests per second", yaxis_type="log")


def main() -> None:
    """Measure, then show and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="environment whose data and base LLM are used")
    parser.add_argument("--lens-requests", type=int, default=1000, help="of each measurement of the lens")
    parser.add_argument("--llm-requests", type=int, default=32, help="of each measurement of the LLM")
    parser.add_argument("--threads", type=int, default=2, help="of the service")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.env, arguments.serve, arguments.threads)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable,
            __file__,
            "--serve",
            name,
            "--env",
            arguments.env,
            "--threads",
            str(arguments.threads),
        ]
        with subprocess.Popen(command) as server:
            try:
                while not (folder / "found.json").exists():
                    if server.poll() is not None:
                        sys.exit("the service ended before it answered")
                    time.sleep(0.1)
                found = json.loads((folder / "found.json").read_text())
                port, users = found["port"], found["users"]
                measure_load(port, users, "lens", 1, min(100, arguments.lens_requests))
                counts = {"lens": arguments.lens_requests, "llm": arguments.llm_requests}
                by_clients = [
                    measure_load(port, users, model, clients, count)
                    for model, count in counts.items()
                    for clients in CLIENTS
                ]
                by_users = [
                    measure_load(port, users[:most], "lens", max(CLIENTS), arguments.lens_requests) for most in USERS
                ]
            finally:
                server.terminate()
    rows = [{"system": name, "seconds": median(values)} for name, values in found["rows"].items()]
    tables = {
        "Targets": target_table(by_clients, by_users, found),
        "By number of clients": by_clients,
        "By number of users": by_users,
        f"{ROWS} rows of {ROWS} users": rows,
    }
    publish("serve", tables, plot(by_clients))


if __name__ == "__main__":
    main()
