"""The log, its splits, and the history of each sample: sequences, retrieval, statistics, records."""
