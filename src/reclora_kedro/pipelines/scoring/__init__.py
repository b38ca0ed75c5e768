"""Score the test rows by every model, also with permuted inputs, which show what a model reads."""

from reclora_kedro.pipelines.scoring.pipeline import create_pipeline
