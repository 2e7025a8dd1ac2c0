"""Where records to compare come from, and how a baseline moves: by hand, and with a reason."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import sections
from bench.record import Record
from bench.refusal import Refused

BASELINE = Path("results/baselines/ci")
REASONS = "BLESSED.md"


def records(text: str) -> list[Record]:
    """Records of a file or folder, or of a git revision: `v1.2`, whose baseline is meant, or `v1.2:some/folder`.

    Raises `Refused` where it is none of these, or holds no record that this version reads.
    """
    if Path(text).exists():
        return sections.read([Path(text)])
    revision, _, folder = text.partition(":")
    if _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is None:
        raise Refused(
            f"{text}: no file, no folder, and no revision of this git repository",
            mend="name records, a folder of them, or a revision such as HEAD~1 or main:results/baselines/ci",
        )
    content = _git("archive", revision, folder or str(BASELINE))
    if content is None:
        raise Refused(f"{text}: the revision {revision} has no {folder or BASELINE}")
    with TemporaryDirectory() as place, tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(place, filter="data")
        return sections.read([Path(place)])


def exists(text: str) -> bool:
    """Whether there is any record at a place, or a revision of that name."""
    place = Path(text)
    if place.exists():
        return place.is_file() or any(place.rglob("*.json"))
    return _git("rev-parse", "--verify", "--quiet", f"{text.partition(':')[0]}^{{commit}}") is not None


def bless(new: Sequence[Record], into: Path, why: str) -> list[Path]:
    """Make records the baseline in a folder: in place of those of the same task, model and method, with the reason.

    Raises `Refused` where the reason is empty or a run is not a result that can be relied on.
    """
    if not why.strip():
        raise Refused("--why is empty", mend='say why the baseline moves: --why "transformers 5.24, scores as before"')
    broken = [record.id for record in new if record.status in ("error", "timeout")]
    if broken:
        raise Refused(f"runs that ended in an error are no baseline: {', '.join(broken)}", mend="run them again")
    into.mkdir(parents=True, exist_ok=True)
    cells = {_cell(record) for record in new}
    for file in sorted(into.rglob("*.json")):
        if _cell(Record.read(file)) in cells:
            file.unlink()
    written = [record.write(into) for record in new]
    names = ", ".join(sorted({method for _, _, method in cells}))
    line = f"- {datetime.now(UTC):%Y-%m-%d} {why.strip()} ({len(written)} runs: {names})\n"
    reasons = into / REASONS
    before = reasons.read_text("utf-8") if reasons.exists() else "# Why this baseline moved\n\n"
    reasons.write_text(before + line, "utf-8")
    return written


def _cell(record: Record) -> tuple[str, str, str]:
    spec = record.spec
    return spec.task.name, Path(spec.base.ref).name, spec.method.name


def _git(*arguments: str) -> bytes | None:
    """What git prints; None where it fails or is not there."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
