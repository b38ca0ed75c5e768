"""A package that the project does not know."""
