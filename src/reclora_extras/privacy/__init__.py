"""User-level differential privacy of an adapter's training."""
