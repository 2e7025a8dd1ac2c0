"""adaptbench: compare the ways of adapting a language model on your own machine."""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "methods").is_dir():
    # A checkout keeps methods/, tasks/ and models/ beside bench/, a wheel inside it: one import name for both.
    __path__.append(str(_HERE.parent))
