"""Objectives, one module each, see `finetuning.examples.Objective`."""
