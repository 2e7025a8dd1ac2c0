"""Regular files of saved artifacts: links out of their folder are not followed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def without_links(artifacts: Path, scratch: Path) -> tuple[Path, list[str]]:
    """Return a folder that holds the regular files of the artifacts and nothing else.

    A link to a file within the folder counts as that file.

    Args:
        artifacts: Folder that a method saved.
        scratch: Existing folder for a copy, which is made only if something has to be left out.

    Returns:
        `artifacts` or its copy; and the names that were left out: links out of the folder, links to folders, pipes.
    """
    root = Path(os.path.realpath(artifacts))
    paths = [path for path in sorted(artifacts.rglob("*")) if path.is_symlink() or not path.is_dir()]
    files = [path for path in paths if path.is_file() and Path(os.path.realpath(path)).is_relative_to(root)]
    left_out = [str(path.relative_to(artifacts)) for path in paths if path not in files]
    if not left_out:
        return artifacts, []
    copy = scratch / "regular_files"
    copy.mkdir()
    for file in files:
        target = copy / file.relative_to(artifacts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return copy, left_out
