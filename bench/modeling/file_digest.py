"""SHA-256 of files, computed once as long as a file stays the same.

The weights of a large model take a minute to hash, and every run of a command checks that they are those of the plan.
So the digests that the planner computed travel with the job, each under the identity of its file. A worker hashes a
file only if its identity has changed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

MIN_AGE_NS = 2 * 10**9
"""Nanoseconds without a change after which a digest is kept: timestamps of some file systems are that coarse."""

_digests: dict[str, str] = {}  # by identity of the file


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file; it is read only if no digest of its identity is known."""
    identity = _identity(file)
    if identity in _digests:
        return _digests[identity]
    status = file.stat()
    is_settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > MIN_AGE_NS
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if is_settled and _identity(file) == identity:
        _digests[identity] = digest
    return digest


def known_digests() -> dict[str, str]:
    """Return the digests known to this process by the identity of the file."""
    return dict(_digests)


def add_known_digests(digests: Mapping[str, str]) -> None:
    """Add digests that another process of the same command computed."""
    _digests.update(digests)


def _identity(file: Path) -> str:
    """Return a text that changes whenever the file is changed or replaced.

    It includes the time of the inode's last change, which no program can set back, unlike the modification time.
    """
    status = file.stat()
    numbers = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return ":".join([*map(str, numbers), str(file.absolute())])
