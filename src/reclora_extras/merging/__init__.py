"""Merge several LoRAs into one, by IterIS (Chen et al. 2024, arXiv 2411.15231) and by PEFT's own ways."""
