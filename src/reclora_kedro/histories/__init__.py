"""Sequences of users' events, item embeddings, and the history that each sample sees."""
