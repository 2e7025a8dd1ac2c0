"""Comparison of records from before and after a change, to find regressions."""
