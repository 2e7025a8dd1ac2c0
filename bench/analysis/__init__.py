"""Comparison, significance, advice and regression checks computed from records."""
