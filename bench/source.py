"""Parsing of Python source, for what is read from a file without importing it."""

from __future__ import annotations

import ast
import threading

_parse_lock = threading.Lock()


def parse_source(source: bytes | str) -> ast.Module:
    """Parse Python source, one at a time in all threads.

    CPython 3.11 can fail when several threads run `ast.parse` at the same time.

    Raises:
        SyntaxError: The source is no Python.
        ValueError: The source contains zero bytes.
    """
    with _parse_lock:
        return ast.parse(source)
