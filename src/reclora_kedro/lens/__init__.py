"""Lenses: CTR models on ids whose frozen states drive the gates. One file a model, one line here."""

LENSES = {
    "deepfm": "reclora_kedro.lens.deepfm:DeepFm",
    "autoint": "reclora_kedro.lens.autoint:AutoInt",
    "dcnv2": "reclora_kedro.lens.dcnv2:DcnV2",
    "gru4rec": "reclora_kedro.lens.gru4rec:Gru4Rec",
    "caser": "reclora_kedro.lens.caser:Caser",
    "sasrec": "reclora_kedro.lens.sasrec:SasRec",
    "din": "reclora_kedro.lens.din:Din",
    "sim": "reclora_kedro.lens.sim:Sim",
    "twin": "reclora_kedro.lens.twin:Twin",
}
"""Where each lens lives, by the name that `lens.model` takes; only the chosen one is imported."""
