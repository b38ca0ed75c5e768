"""Lenses as files."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reclora_kedro.lens.base import load_lens
from reclora_kedro.lens.states import lens_scores, lens_states


def test_a_saved_lens_scores_identically(fitted, log, tmp_path) -> None:
    lens, _ = fitted
    lens.save(tmp_path)
    loaded = load_lens(tmp_path)
    states, states_again = (lens_states(each, log, log.samples[:50]) for each in (lens, loaded))
    assert states.keys() == states_again.keys()
    assert all(torch.equal(state, states_again[kind]) for kind, state in states.items())
    np.testing.assert_array_equal(lens_scores(states), lens_scores(states_again))
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_saved_lens_is_two_files_that_hold_all_of_it(fitted, tmp_path) -> None:
    lens, _ = fitted
    lens.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lens.json", "lens.safetensors"}
    settings = json.loads((tmp_path / "lens.json").read_text())
    assert settings == {"lens": lens.config.model_dump(), "sizes": json.loads(lens.sizes.model_dump_json())}
    loaded = load_lens(tmp_path)
    assert (loaded.config, loaded.sizes) == (lens.config, lens.sizes)
    for name, tensor in lens.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_weights_of_another_lens_are_refused(fitted, tmp_path) -> None:
    fitted[0].save(tmp_path)
    weights = load_file(tmp_path / "lens.safetensors")
    del weights["output.weight"]
    save_file(weights, tmp_path / "lens.safetensors")
    with pytest.raises(RuntimeError, match=r"output\.weight"):
        load_lens(tmp_path)
