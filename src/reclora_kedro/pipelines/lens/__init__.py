"""Train the lens on all training rows, and compute its states and scores of the rows that become prompts."""

from reclora_kedro.pipelines.lens.pipeline import create_pipeline
