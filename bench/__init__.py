"""adaptbench: compare ways of adapting a language model on your own machine."""

from pathlib import Path

__version__ = "0.1.0"

_PACKAGE = Path(__file__).resolve().parent
if not (_PACKAGE / "methods").is_dir():
    # A checkout keeps methods/, tasks/ and models/ beside bench/, a wheel inside it; both import as bench.methods.
    __path__.append(str(_PACKAGE.parent))
