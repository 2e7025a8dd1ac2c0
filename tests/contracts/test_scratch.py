"""Scratch folders are deleted by their owner, or by the next command after their owner was killed, never before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import scratch

OWNER = """
import sys
from pathlib import Path
from bench import scratch

with scratch.scratch_folder(Path(sys.argv[1]) if sys.argv[1:] else None) as folder:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(bytes(1000))
    print(folder, flush=True)
    sys.stdin.read()
"""


def start_owner(environment: dict[str, str], *arguments: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that owns a scratch folder until it is killed; return it and the folder."""
    command = [sys.executable, "-c", OWNER, *arguments]
    owner = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, Path(owner.stdout.readline().strip())


@pytest.mark.parametrize("is_hidden", [True, False])
def test_remove_abandoned_folders_spares_living_owners(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_hidden: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    parent = tmp_path if is_hidden else None
    arguments = [str(tmp_path)] if is_hidden else []
    owner, folder = start_owner(environment | {"TMPDIR": str(tmp_path)}, *arguments)
    assert folder.parent == tmp_path and folder.name.startswith(".") is is_hidden
    scratch.remove_abandoned_folders(parent)
    assert (folder / "model" / "weights").is_file()
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    monkeypatch.setattr(socket, "gethostname", lambda: "another-host")
    scratch.remove_abandoned_folders(parent)
    assert folder.is_dir(), "a folder of another machine may have an owner there"
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch.remove_abandoned_folders(parent)
    assert list(tmp_path.iterdir()) == []


def test_remove_abandoned_folders_spares_folders_without_lock_file_unless_old(tmp_path: Path) -> None:
    with scratch.scratch_folder(tmp_path) as folder:
        name = folder.name
    assert not folder.exists()
    new = tmp_path / f"{name[:-4]}new0"
    (new / "part").mkdir(parents=True)
    scratch.remove_abandoned_folders(tmp_path)
    assert new.is_dir(), "its owner may be about to lock it"
    os.utime(new, (0, 0))
    scratch.remove_abandoned_folders(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_remove_abandoned_folders_follows_no_links(tmp_path: Path) -> None:
    with scratch.scratch_folder(tmp_path) as folder:
        name = folder.name
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "lock").touch()
    (tmp_path / f"{name[:-4]}link").symlink_to(kept)
    scratch.remove_abandoned_folders(tmp_path)
    assert (kept / "lock").is_file()
