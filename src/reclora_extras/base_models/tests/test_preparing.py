"""Steps of other packages, and what is measured of an LLM."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from few_rows import PROMPT_FORMAT, random_prompts, with_adapter
from reclora_extras.base_models.material import Material
from reclora_extras.base_models.preparing import measure, require_steps
from steps_of_base_model import config, random_llm

STEP = """
from reclora_extras.base_models.steps import Step

class Halve(Step):
    @staticmethod
    def remaining_layers(model, layers, config):
        return layers // 2
"""


def test_steps_are_refused_at_once_where_those_before_also_of_other_packages_leave_too_few_layers(
    tiny_llm, tmp_path, monkeypatch
):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/halve.py").write_text(STEP)
    monkeypatch.syspath_prepend(tmp_path)
    llm = random_llm(tiny_llm)  # of six layers: dropping takes two, and spares one at either end
    require_steps(llm, config(steps=["drop_layers", "outside.halve"]))
    with pytest.raises(ValueError, match=r"drop_layers\.layers is 2, but of 2 layers .* only 0 may be dropped"):
        require_steps(llm, config(steps=["drop_layers", "outside.halve", "drop_layers"]))
    with pytest.raises(ValueError, match=r"'drop_layer' is unknown.*the nearest one is drop_layers"):
        config(steps=["drop_layer"])
    del sys.modules["outside.halve"], sys.modules["outside"]


def test_no_answer_is_measured_with_what_others_left_remembered(tiny_model):
    prompts, calls = random_prompts(12), []
    adapted = with_adapter(tiny_model, last_layers=1)
    adapted.all_llm_logits(prompts, 100, "")  # of which the layer below is remembered
    llm = tiny_model.llm.with_model(adapted.model.unload())
    llm.model.get_decoder().layers[0].register_forward_hook(lambda *_: calls.append(1))
    logits = replace(tiny_model, llm=llm).all_llm_logits(prompts, 100, "")
    assert not calls
    measured, again = measure(llm, Material([], prompts, prompts, PROMPT_FORMAT), config())
    assert calls
    np.testing.assert_allclose(again, logits, rtol=1e-5)
    assert measured["milliseconds_per_row"] > 0
