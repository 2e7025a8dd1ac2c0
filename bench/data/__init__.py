"""Readers of rows, tasks made from rows, and checks of tasks."""
