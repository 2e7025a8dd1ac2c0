"""Export of a run: a folder that answers without adaptbench."""
