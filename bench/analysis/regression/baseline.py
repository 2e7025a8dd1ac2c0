"""Where records to compare come from, and how a baseline moves: by hand, and with a reason."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.analysis import task_results
from bench.errors import UserError
from bench.records import reader
from bench.records.record import BASELINE_MARKER, Record

BASELINE = Path("results/baselines/ci")
_unpacked: list[TemporaryDirectory[str]] = []  # texts of records are read from there until the process ends


def load_baseline(text: str) -> list[Record]:
    """Records of a file or folder, or of a git revision: `v1.2`, whose baseline is meant, or `v1.2:some/folder`.

    Raises `UserError` where it is none of these, or holds no record that this version reads.
    """
    if Path(text).exists():
        return task_results.read_records([Path(text)])
    revision, _, folder = text.partition(":")
    if _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is None:
        raise UserError(
            f"{text}: no file, no folder, and no revision of this git repository",
            hint="name records, a folder of them, or a revision such as HEAD~1 or main:results/baselines/ci",
        )
    content = _git("archive", revision, folder or str(BASELINE))
    if content is None:
        raise UserError(f"{text}: the revision {revision} has no {folder or BASELINE}")
    place = TemporaryDirectory(prefix="bench-")
    _unpacked.append(place)
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later have it
        packed.extractall(place.name, [one for one in packed if one.isfile()])  # no link leads anywhere
    return task_results.read_records([Path(place.name, folder or BASELINE)])


def exists(text: str) -> bool:
    """Whether there is any record at a place, or in a revision; raises `UserError` where there is no such revision."""
    place = Path(text)
    if place.exists():
        return place.is_file() or bool(task_results.find_record_files(place))
    revision, _, folder = text.partition(":")
    if _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is not None:
        return _git("cat-file", "-e", f"{revision}:{folder or BASELINE}") is not None
    if place != BASELINE and not place.parent.exists():
        raise UserError(f"{text}: no file, no folder, and no revision of this git repository")
    return False


def bless_baseline(new: Sequence[Record], into: Path, reason: str) -> list[Path]:
    """Make records the baseline in a folder: in place of those of the same task, model and method, with the reason.

    Raises `UserError` where the reason is empty or a run is not a result that can be relied on.
    """
    if not reason.strip():
        raise UserError(
            "--reason is empty", hint='say why the baseline moves: --reason "transformers 5.24, scores as before"'
        )
    broken = [record.id for record in new if record.status in ("error", "timeout")]
    if broken:
        raise UserError(f"runs that ended in an error are no baseline: {', '.join(broken)}", hint="run them again")
    cells = {_cell(record) for record in new}
    before = task_results.find_record_files(into) if into.exists() else []
    replaced = [file for file in before if _cell(reader.read_file(file)) in cells]  # all are read before any is touched
    written = [record.write(into) for record in new]
    for file in replaced:
        if file not in written:
            file.unlink()
    names = ", ".join(sorted({method for _, _, method in cells}))
    line = f"- {datetime.now(UTC):%Y-%m-%d} {reason.strip()} ({len(written)} runs: {names})\n"
    reasons = into / BASELINE_MARKER
    told = reasons.read_text("utf-8") if reasons.exists() else "# Why this baseline moved\n\n"
    reasons.write_text(told + line, "utf-8")
    return written


def _cell(record: Record) -> tuple[str, str, str]:
    spec = record.spec
    return spec.task.name, spec.base.name, spec.method.name


def _git(*arguments: str) -> bytes | None:
    """What git prints; None where it fails or is not there."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
