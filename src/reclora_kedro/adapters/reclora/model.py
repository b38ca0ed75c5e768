"""PEFT tuner that replaces every target layer of the base LLM by a :class:`RecLoraLayer`."""

from reclora_kedro.adapters.reclora.config import RecLoraConfig, RecLoraType
from reclora_kedro.adapters.reclora.gates import GateBank
from reclora_kedro.adapters.reclora.layer import RecLoraLayer
from reclora_kedro.adapters.tuner import PersonalizedTuner, register


class RecLoraModel(PersonalizedTuner):
    """A base LLM with personalized LoRA, made by ``peft.get_peft_model(llm, RecLoraConfig(...))``.

    Its ``reclora_gates`` hold one :class:`GateBank` per adapter with several meta-LoRAs; their weights have shape
    (G, batch, N), with G 1 for ``gate_scope: shared``.
    """

    prefix = "reclora_"
    tuner_layer_cls = RecLoraLayer

    def new_gates(self, config: RecLoraConfig, layers: int) -> GateBank | None:
        """Return one gate per layer, or a single one; None if there is nothing to route."""
        if config.num_meta_loras == 1:
            return None
        return GateBank(config, 1 if config.gate_scope == "shared" else layers)


register(RecLoraType.RECLORA, RecLoraConfig, RecLoraModel)
