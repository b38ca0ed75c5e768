"""SASRec over the texts of a history, with the loss of HLLM (Chen et al. 2024, arXiv 2409.12740)."""
