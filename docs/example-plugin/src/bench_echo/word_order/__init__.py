"""The task `word-order`: the entry point names this package, whose folder is the task."""
