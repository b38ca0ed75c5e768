"""Update, on request: new interactions in; tables, log and lens go on; the next champion is named."""

from reclora_kedro.pipelines.update.pipeline import create_pipeline

__all__ = ["create_pipeline"]
