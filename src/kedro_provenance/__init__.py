"""Runs of Kedro pipelines: catalog and versions, what they were made of, plan, manifest and cells."""
