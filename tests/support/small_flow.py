"""A small flow of nodes on JSON files, run session by session as `kedro run` runs the project's."""

import json
from contextlib import suppress
from itertools import count
from pathlib import Path

from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.pipeline import Node, Pipeline

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.plan import plan
from kedro_provenance.runner import IncrementalRunner
from kedro_provenance.stores import Store

sessions = count(1)
resumed = []  # of each training, the checkpoints that it went on from


class StoppedError(Exception):
    """Ends a run."""


def clean(raw: list) -> tuple[list, list]:
    return sorted(value for value in raw if value > 0), sorted(set(raw))


def embed(items: list) -> list:
    return [item / 10 for item in items]


def train(table: list, embeddings: list, lens: dict, checkpoints: object) -> tuple[list, dict]:
    folder = Path(checkpoints.folder, checkpoints.training)
    folder.mkdir(parents=True, exist_ok=True)
    resumed.append([path.name for path in sorted(folder.iterdir())])
    (folder / "step-1").write_text("half")
    if lens["factor"] == 13:
        raise StoppedError
    return [value * lens["factor"] for value in table], {"rows": len(table)}


def score(model: list, lens: dict) -> float:
    return sum(model) + lens["factor"]


def evaluate(scores: float, log: dict, evaluation: dict) -> dict:
    return {"score": scores, **log, **evaluation}


FLOW = Pipeline(
    [
        Node(clean, "raw", ["table", "items"], name="clean"),
        Node(embed, "items", "embeddings", name="embed"),
        Node(train, ["table", "embeddings", "params:lens", "checkpoints"], ["model", "training_log"], name="train"),
        Node(score, ["model", "params:lens"], "scores", name="score"),
        Node(evaluate, ["scores", "training_log", "params:evaluation"], "metrics", name="evaluate"),
    ]
)
OUTPUTS = sorted(FLOW.all_outputs())


class Project:
    """A folder in which the flow runs, session by session."""

    def __init__(self, folder):
        self.folder = folder
        self.parameters = {"lens": {"factor": 2, "seed": 1}, "evaluation": {"level": 0.9}}
        self.give([3, 1, 2])

    def give(self, raw):
        (self.folder / "raw.json").write_text(json.dumps(raw))

    def catalog(self):
        entries = {
            name: {"type": "json.JSONDataset", "filepath": str(self.folder / f"{name}.json"), "versioned": True}
            for name in OUTPUTS
        }
        entries["raw"] = {"type": "json.JSONDataset", "filepath": str(self.folder / "raw.json")}
        entries["checkpoints"] = {
            "type": "reclora_kedro.datasets.checkpoint_store.CheckpointStoreDataset",
            "filepath": str(self.folder / "checkpoints"),
        }
        catalog = AtomicCatalog.from_config(entries, save_version=f"{next(sessions):06d}")
        for name, block in self.parameters.items():
            catalog[f"params:{name}"] = dict(block)
        return catalog

    def run(self, only=None, stop_after=99):
        """Run the named nodes, or those that have to run; the names of those that ran."""
        flow, hooks, ran = FLOW if only is None else FLOW.only_nodes(*only), _create_hook_manager(), []

        class Noting:
            @hook_impl
            def before_node_run(self, node):
                if len(ran) == stop_after:
                    raise StoppedError
                ran.append(node.name)

        hooks.register(Noting())
        catalog, run_id = self.catalog(), f"run-{next(sessions)}"
        catalog.stores = [Store(str(self.folder / "cells"))]
        with suppress(StoppedError):
            IncrementalRunner().run(flow, catalog, hooks, run_id, only_missing_outputs=only is None)
        return ran

    def reasons(self):
        return {step.node.name: list(step.reasons) for step in plan(FLOW, self.catalog()) if step.reasons}

    def stored(self):
        catalog = self.catalog()
        return {name: catalog.load(name) for name in OUTPUTS}

    def newest(self, name):
        return max((self.folder / f"{name}.json").iterdir())
