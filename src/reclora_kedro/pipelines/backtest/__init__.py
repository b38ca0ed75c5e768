"""Measure which method ranks best in several windows of time, fitted again before each; on request."""

from reclora_kedro.pipelines.backtest.pipeline import create_pipeline
