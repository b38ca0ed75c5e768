"""Select few-shot rows by the quality of their texts, with filters of `reclora_extras.base_models.corpus`."""
