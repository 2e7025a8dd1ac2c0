"""What a user takes away: a folder that answers without adaptbench."""
