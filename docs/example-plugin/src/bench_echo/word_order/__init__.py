"""A task: the folder of this file, found by its entry point."""
