"""Models that are no LLM, one file each, which the LLM is compared with; see `reclora_kedro.baselines.registry`."""
