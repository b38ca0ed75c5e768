"""Saved adapters are the same to the last byte in every process."""

import os
import subprocess
import sys
from pathlib import Path

SAVE = """
import sys, torch
from pathlib import Path
from random_llama import random_llama, with_random_adapter
from reclora_kedro.adapters.methods import user_loras
names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
settings = {"num_meta_loras": 2, "r": 2, "gate_dim": 3, "gate_input": "user"}
settings |= {"target_modules": names, "exclude_modules": ["lm_head", "norm"]}
adapted = with_random_adapter(random_llama(2), 0.1, **settings)
folder = Path(sys.argv[1])
adapted.save_pretrained(folder / "adapter")
user_loras(adapted, torch.eye(3), ["ann", "bob", "cid"]).save(folder / "users")
"""


def test_whatever_the_seed_of_hashes_is(tmp_path, monkeypatch):
    folders = [tmp_path / "here", tmp_path / "there"]
    monkeypatch.setattr(sys, "argv", ["save", str(folders[0])])
    exec(SAVE, {})
    tests = os.pathsep.join([str(Path(__file__).parents[2] / "support"), os.environ.get("PYTHONPATH", "")])
    seed = str(int(os.environ.get("PYTHONHASHSEED", "0").replace("random", "0")) + 1)
    environment = {**os.environ, "PYTHONPATH": tests, "PYTHONHASHSEED": seed}
    subprocess.run([sys.executable, "-c", SAVE, folders[1]], env=environment, check=True, timeout=600)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert len(first) >= 3 + 2 * 3
    assert first.keys() == second.keys()
    assert not [str(path) for path, content in first.items() if content != second[path]]
