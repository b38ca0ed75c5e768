"""MTL-LoRA as a PEFT method: importing this module makes PEFT create, save and load it like its own methods."""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from reclora_extras.mtl_lora.config import MtlLoraConfig, MtlLoraType
from reclora_extras.mtl_lora.method import MtlLora
from reclora_extras.mtl_lora.model import MtlLoraModel

PEFT_TYPE_TO_CONFIG_MAPPING[MtlLoraType.MTL_LORA] = MtlLoraConfig
PEFT_TYPE_TO_TUNER_MAPPING[MtlLoraType.MTL_LORA] = MtlLoraModel
PEFT_TYPE_TO_PREFIX_MAPPING[MtlLoraType.MTL_LORA] = MtlLoraModel.prefix

METHOD = MtlLora()
