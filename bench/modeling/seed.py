"""Seeding of all random number generators of a run."""

from __future__ import annotations

import random
import sys


def seed_all(seed: int) -> None:
    """Seed the generators of Python and, if they are imported, NumPy and PyTorch.

    A library that is not imported yet stays so, because importing it takes seconds.
    """
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
