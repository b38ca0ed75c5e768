"""Kedro datasets that no package offers: models, folders, checkpoints, and tables of their own kinds."""
