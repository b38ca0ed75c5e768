"""RecLoRA as a PEFT method: importing this module makes PEFT create, save and load it like its own methods."""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from reclora_kedro.adapters.reclora.config import RecLoraConfig, RecLoraType
from reclora_kedro.adapters.reclora.layer import RecLoraLayer
from reclora_kedro.adapters.reclora.method import RecLora
from reclora_kedro.adapters.reclora.model import RecLoraModel

PEFT_TYPE_TO_CONFIG_MAPPING[RecLoraType.RECLORA] = RecLoraConfig
PEFT_TYPE_TO_TUNER_MAPPING[RecLoraType.RECLORA] = RecLoraModel
PEFT_TYPE_TO_PREFIX_MAPPING[RecLoraType.RECLORA] = RecLoraModel.prefix

METHOD = RecLora()
