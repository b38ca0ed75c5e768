"""What is tried before a run begins."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from safetensors.torch import load_file, save_file

from kedro_provenance.failures import RunRefusedError
from kedro_provenance.start import try_checks
from reclora_kedro.datasets.causal_lm import CausalLMDataset
from reclora_kedro.distributed.engine import EngineConfig
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.lens.config import LensConfig
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.pipelines.checks import checks
from starting import start

ROOT = Path(__file__).parents[2]
BASE = OmegaConfigLoader(str(ROOT / "conf"), base_env="base", default_run_env="base")["parameters"]
FINETUNING = Pipeline(
    [
        Node(
            lambda *_: 1,
            ["base_llm", "mine.prompt_template", "params:prompt"],
            "learning.recent.prompts",
            name="build_prompts",
        ),
        Node(lambda *_: 1, ["params:lens"], "lens", name="train_lens"),
        Node(
            lambda *_: 1,
            ["base_llm", "learning.recent.prompts", "params:finetuning.variants.reclora"],
            "reclora.adapter",
            name="train_adapter",
        ),
    ]
)


def refusal(
    folder,
    pipeline=FINETUNING,
    template="{{ target.title }}:",
    lens=None,
    adapter=None,
    training=None,
    **prompt,
):
    """Why a run with a base LLM and these settings is refused; None if it is not."""
    variant = BASE["finetuning"]["variants"]["reclora"]
    parameters = {
        "params:prompt": PromptConfig(**BASE["prompt"] | {"template": "mine"} | prompt),
        "params:ingestion": BASE["ingestion"],
        "params:lens": LensConfig(**BASE["lens"] | {"device": "cpu", "seed": 0} | (lens or {})),
        "params:finetuning.variants.reclora": VariantConfig(
            **variant
            | {"adapter": variant["adapter"] | (adapter or {}), "training": variant["training"] | (training or {})}
        ),
        "params:update.adapter": None,
    }
    catalog = DataCatalog({name: MemoryDataset(value, copy_mode="assign") for name, value in parameters.items()})
    catalog["base_llm"] = CausalLMDataset(source=str(folder), device="cpu", dtype="float32")
    catalog["mine.prompt_template"] = MemoryDataset(template)
    try:
        try_checks(start(pipeline=pipeline, catalog=catalog, checks=[checks]))
    except RunRefusedError as error:
        return str(error)


def test_a_run_that_will_work_is_welcome(tiny_llm_folder):
    assert refusal(tiny_llm_folder) is None


def test_all_that_would_fail_is_named_at_once(tiny_llm_folder):
    said = refusal(
        tiny_llm_folder,
        template="{{ target.genre }}",
        lens={"device": "gpu", "model": "text_transformer"},
        adapter={"target_modules": ["lm_head"]},
        positive_answer="Absolutely",
        max_tokens=5_000,
    )
    assert said.startswith("This run would fail. Nothing was written.\n- device is 'gpu', but")
    for words in (
        "set lens.item_text to true",
        "prompt.positive_answer 'Absolutely' and",
        "prompt.max_tokens is 5000, but the base LLM's context is 1024 tokens",
        "no attribute 'genre'",
        "adapter.target_modules names lm_head",
    ):
        assert words in said


def test_an_update_of_an_adapter_that_was_trained_with_privacy_is_refused(tiny_llm_folder):
    settings = {"training": {"privacy": {"kind": "user_level_dp"}}, "adapter": {"gate_norm": "layer"}}
    assert refusal(tiny_llm_folder, **settings) is None
    inputs = ["base_llm", "champion.reclora.adapter", "params:finetuning.variants.reclora", "params:update.adapter"]
    update = Pipeline([Node(lambda *_: 1, inputs, "reclora.adapter", name="update_adapter")])
    assert refusal(tiny_llm_folder, update) is None
    assert "set update.variant to another variant" in refusal(tiny_llm_folder, update, **settings)


def test_a_base_llm_without_weights_is_refused(tiny_llm_folder, tmp_path):
    for file in tiny_llm_folder.glob("*.json"):
        shutil.copy(file, tmp_path)
    assert f"{tmp_path} has no *.safetensors weights" in refusal(tmp_path)


def test_a_base_llm_that_lacks_some_weights_is_refused(tiny_llm_folder, tmp_path):
    folder = shutil.copytree(tiny_llm_folder, tmp_path / "llm")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "mlp" in name)
    save_file({other: weight for other, weight in weights.items() if other != name}, folder / "model.safetensors")
    assert f"lacks 1 of the weights that its config.json requires, which would be random numbers: {name}" in " ".join(
        refusal(folder).split()
    )
    with pytest.raises(ValueError, match="lacks 1 of the weights"):
        load_language_model(str(folder), device="cpu")


def test_code_that_comes_with_a_base_llm_is_never_run(tiny_llm_folder, tmp_path):
    folder = shutil.copytree(tiny_llm_folder, tmp_path / "llm")
    trace = tmp_path / "code-was-run"
    (folder / "modeling_mine.py").write_text(f"open({str(trace)!r}, 'w')\nclass Mine: pass\nclass MineConfig: pass\n")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "mine"}
    auto_map = {"AutoConfig": "modeling_mine.MineConfig", "AutoModelForCausalLM": "modeling_mine.Mine"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    said = refusal(folder)
    assert "which this project never runs" in said
    assert not trace.exists()


def test_a_run_that_needs_no_llm_loads_none():
    code = (
        "import sys; from kedro.io import DataCatalog; from kedro.pipeline import Node, Pipeline;"
        "from reclora_kedro.pipelines.checks import checks;"
        "assert not any(check() for check in checks("
        " Pipeline([Node(lambda log: 1, 'raw_interactions', 'interactions', name='n')]), DataCatalog()));"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip().splitlines()[-1] == "[]"


def test_an_engine_that_cannot_run_is_refused_with_all_reasons(monkeypatch):
    monkeypatch.setattr("reclora_kedro.distributed.engine.find_spec", lambda name: None)
    lens = LensConfig(**BASE["lens"] | {"seed": 0})
    engine = EngineConfig(**BASE["engine"] | {"kind": "ray", "scratch": "nowhere"})
    catalog = DataCatalog(
        {"params:lens": MemoryDataset(lens), "params:engine": MemoryDataset(engine), "log": MemoryDataset(0)}
    )
    train = Pipeline([Node(lambda *_: 1, ["log", "params:lens", "params:engine"], "lens", name="train_lens")])
    with pytest.raises(RunRefusedError) as refused:
        try_checks(start(pipeline=train, catalog=catalog, checks=[checks]))
    for reason in (
        "engine.scratch is 'nowhere', which is not a folder on this machine: create it",
        "Ray is not installed: `pip install 'ray",
        "lens.batch_parts is 1, but engine.workers is 2",
    ):
        assert reason in str(refused.value)
