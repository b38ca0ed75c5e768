"""Few-shot rows chosen by the quality of their texts, by the stages of `reclora_extras.base_models.corpus`."""
