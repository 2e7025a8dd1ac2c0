"""Base models: checkpoints on disk, and loaded models that generate and score."""
