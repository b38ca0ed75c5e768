"""Remove users from everything in use, and list the stored versions that still hold them; on request."""

from reclora_kedro.pipelines.forget.pipeline import create_pipeline
