"""An adapter method from outside the project: PEFT's (IA)³, which scales the outputs of layers; without gates."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from peft import IA3Config, IA3Model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from pydantic import ConfigDict

from reclora_kedro.adapters.base import AdapterMethod
from reclora_kedro.adapters.base_llm import require_target_modules
from reclora_kedro.adapters.saved import TrainedOn


@dataclass
class ScalingSettings:
    """What may be set of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    method: Literal["scaling"] = "scaling"
    target_modules: list[str] = field(default_factory=lambda: ["v_proj", "o_proj", "up_proj", "down_proj"])


@dataclass
class ScalingConfig(ScalingSettings, TrainedOn, IA3Config):
    """The same as PEFT knows it."""

    def __post_init__(self):
        IA3Config.__post_init__(self)
        self.peft_type = "SCALING"


class Scaling(AdapterMethod):
    """(IA)³ as one of the project's methods."""

    name = "scaling"
    settings = ScalingSettings
    measures = ("largest_scale",)

    def require(self, model, settings):
        require_target_modules(model, settings.target_modules)

    def peft_config(self, model, settings, trained_on):
        return ScalingConfig(task_type="CAUSAL_LM", feedforward_modules=[], **asdict(settings), **asdict(trained_on))

    def measure(self, adapted, gate_inputs):
        scales = [weights for name, weights in adapted.named_parameters() if "ia3_" in name]
        return {"largest_scale": max(weights.abs().max().item() for weights in scales)}


METHOD = Scaling()

PEFT_TYPE_TO_CONFIG_MAPPING["SCALING"] = ScalingConfig
PEFT_TYPE_TO_TUNER_MAPPING["SCALING"] = IA3Model
PEFT_TYPE_TO_PREFIX_MAPPING["SCALING"] = "ia3_"
