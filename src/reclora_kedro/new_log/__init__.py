"""A first environment for somebody's own tables: what they hold is guessed from their heads and samples."""
