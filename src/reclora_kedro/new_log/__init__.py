"""Write a first environment for raw tables, guessed from heads and samples of the files."""
