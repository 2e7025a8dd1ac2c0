"""A method and a task for adaptbench."""
