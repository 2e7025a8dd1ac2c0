"""Baseline records: load them from files or a git revision, and replace them."""

from __future__ import annotations

import atexit
import io
import os
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench import scratch
from bench.errors import UserError
from bench.escape import clean_line, escape_markdown
from bench.i18n import Message
from bench.records import BASELINE_MARKER, Record, files, find_record_files, read_records, reader

DEFAULT_BASELINE = Path("results/baselines/ci")

# Records read their samples when they are used, so unpacked folders must exist until the process ends.
_unpacked_folders = ExitStack()
atexit.register(_unpacked_folders.close)


def load_baseline(reference: str) -> list[Record]:
    """Load records from a file, a folder or a git revision.

    Args:
        reference: A path; a revision such as `v1.2`, for its `results/baselines/ci`; or `v1.2:some/folder`.

    Raises:
        UserError: If the reference is none of these, or if it has no valid records.
    """
    if os.path.exists(reference):
        return read_records([Path(reference)])
    revision, folder = _split_reference(reference)
    if not _is_revision(revision):
        raise UserError(
            Message("{reference}: no such file, folder or git revision", reference=reference),
            hint=Message("name a file or folder of records, or a revision such as HEAD~1 or main:results/baselines/ci"),
        )
    content = _git("archive", revision, folder)
    if content is None:
        raise UserError(
            Message(
                "{reference}: {folder} not found in revision {revision}",
                reference=reference,
                folder=folder,
                revision=revision,
            )
        )
    unpacked = _unpacked_folders.enter_context(scratch.scratch_folder())
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        # Links are left out, because they may lead out of the folder.
        archive.extractall(unpacked, [member for member in archive if member.isfile()], filter="data")
    return read_records([unpacked / folder])


def has_records(reference: str) -> bool:
    """Return True if a path or a git revision has records.

    Args:
        reference: See `load_baseline`; for a revision, only the existence of its folder is checked.

    Raises:
        UserError: If neither the path nor its parent folder exists, and there is no such revision.
    """
    path = Path(reference)
    if os.path.exists(path):
        return path.is_file() or bool(find_record_files(path))
    revision, folder = _split_reference(reference)
    if _is_revision(revision):
        return _git("cat-file", "-e", f"{revision}:{folder}") is not None
    if path != DEFAULT_BASELINE and not os.path.exists(path.parent):
        raise UserError(Message("{reference}: no such file, folder or git revision", reference=reference))
    return False


def bless_baseline(new: Sequence[Record], into: Path, reason: str) -> list[Path]:
    """Replace the baseline records of the same task, model and method by new ones.

    Args:
        new: The new baseline records.
        into: Folder of the baseline.
        reason: Reason for the change, which is appended to `BLESSED.md` in the folder.

    Returns:
        The files of the new records.

    Raises:
        UserError: If the reason is empty, if a run ended in an error, if the baseline has an invalid record, or
            if a record that would be replaced is in a subfolder.
    """
    if not reason.strip():
        raise UserError(Message("--reason is empty"), hint=Message('--reason "transformers 5.24, scores unchanged"'))
    failed = [record.id for record in new if record.status in ("error", "timeout")]
    if failed:
        raise UserError(
            Message("failed runs cannot be a baseline: {names}", names=", ".join(failed)),
            hint=Message("run them again"),
        )
    new_methods = {_method_id(record) for record in new}
    # All old records are read before any file is touched, so that an invalid one leaves the baseline unchanged.
    old_files = find_record_files(into) if into.exists() else []
    replaced = [file for file in old_files if _method_id(reader.read_file(file)) in new_methods]
    nested = [file for file in replaced if file.parent != into]
    if nested:
        raise UserError(
            Message(
                "--into {into}: its subfolders have records of the same methods, which would be deleted", into=into
            ),
            location=str(nested[0]),
            hint=Message("--into {folder}, or another folder without subfolders", folder=DEFAULT_BASELINE),
        )
    try:
        written = [record.write(into) for record in new]
    except OSError as error:
        raise UserError(
            Message("--into {into}: cannot be written: {reason}", into=into, reason=error.strerror),
            location=str(into.absolute()),
        ) from None
    for file in replaced:
        if file not in written:
            file.unlink()
    _log_change(into, reason, len(written), {method for _, _, method in new_methods})
    return written


def _log_change(into: Path, reason: str, num_runs: int, methods: Iterable[str]) -> None:
    """Append the reason for new baseline records to the log in their folder."""
    line = f"- {datetime.now(UTC):%Y-%m-%d} {clean_line(reason.strip())} "
    line += f"({num_runs} runs: {escape_markdown(', '.join(sorted(methods)))})\n"
    log = into / BASELINE_MARKER
    earlier = log.read_text("utf-8") if log.is_file() else "# Changes of this baseline\n\n"
    files.write_atomically(log, earlier + line)


def _split_reference(reference: str) -> tuple[str, str]:
    """Return the revision and the folder of a reference such as `v1.2` or `v1.2:some/folder`."""
    revision, _, folder = reference.partition(":")
    return revision, folder or str(DEFAULT_BASELINE)


def _is_revision(revision: str) -> bool:
    return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is not None


def _method_id(record: Record) -> tuple[str, str, str]:
    spec = record.spec
    return spec.task.name, spec.base.name, spec.method.name


def _git(*arguments: str) -> bytes | None:
    """Return the output of a git command, or None if it fails or git is not installed."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
