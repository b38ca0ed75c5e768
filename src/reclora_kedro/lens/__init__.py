"""Lenses: CTR models on ids whose frozen states drive the gates. One file a model, one line here."""

LENSES = {
    "din": "reclora_kedro.lens.din:Din",
    "sim": "reclora_kedro.lens.sim:Sim",
}
"""Where each lens lives, by the name that `lens.model` takes; only the chosen one is imported."""
