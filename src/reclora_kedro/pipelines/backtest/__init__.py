"""Measure which method ranks best in each of several windows of time, fitted anew before each; on request."""

from reclora_kedro.pipelines.backtest.pipeline import create_pipeline
