"""The log, its splits, and the history that each sample sees: sequences, retrieval, statistics, records."""
