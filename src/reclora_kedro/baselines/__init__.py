"""Models without an LLM, one file each, to compare the LLM with; see `reclora_kedro.baselines.registry`."""
