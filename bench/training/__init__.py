"""Gradient training under a budget."""
