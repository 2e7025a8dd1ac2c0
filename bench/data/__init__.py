"""Rows in, tasks made and checked."""
