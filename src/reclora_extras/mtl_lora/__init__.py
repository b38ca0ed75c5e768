"""MTL-LoRA as a PEFT method."""

from reclora_extras.mtl_lora.method import MtlLora

METHOD = MtlLora()
