"""Metrics that need a model of their own: similarity of meaning, and a judge."""
