"""Objectives, one module each: what an adapter learns from its few-shot rows, see `finetuning.examples.Objective`."""
