"""Seconds, memory, energy, operations and forgetting."""
