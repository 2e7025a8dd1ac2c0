"""Equal runs in two Python environments, to judge a library upgrade in advance."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import bench
from bench.errors import UserError
from bench.i18n import Message

RESERVED_NAMES = ("harness", "environments", "rounds")
"""Folders of the output folder that hold no final records."""


def run_in_environments(requirements: Sequence[Path], command: str, out: Path) -> list[Path]:
    """Run `bench run` in one environment per requirements file.

    Args:
        requirements: Requirements files; the name of each, without its suffix, names its folder of records.
        command: Options of `bench run`.
        out: Output folder; it is deleted first if an earlier comparison made it.

    Returns:
        The folder of records of each environment.

    Raises:
        UserError: If a file is missing or cannot be installed, if the output folder has other content, or if
            `bench run` fails.
    """
    for file in requirements:
        if not file.is_file():
            raise UserError(Message("{file}: requirements file not found", file=file))
    names = [file.stem for file in requirements]
    if len({*names, *RESERVED_NAMES}) < len(names) + len(RESERVED_NAMES):
        raise UserError(
            Message(
                "requirements files name the folders of their records, so these names are invalid: {names}",
                names=", ".join(names),
            ),
            hint=Message("use different names, and none of {names}", names=", ".join(RESERVED_NAMES)),
        )
    harness = out / "harness"
    if out.exists() and any(out.iterdir()) and not (harness / "bench").is_symlink():
        raise UserError(
            Message("--out {out}: the folder has other content, which would be deleted", out=out),
            hint=Message("name a new folder, or one that an earlier `bench compare --requirements` made"),
        )
    if out.exists():
        shutil.rmtree(out)  # Otherwise pip would keep packages and `bench run` would keep records of earlier ones.
    harness.mkdir(parents=True)
    # Only the package is linked, so that no other module of the checkout can be imported.
    (harness / "bench").symlink_to(Path(bench.__file__).resolve().parent)
    folders = []
    for file, name in zip(requirements, names, strict=True):
        python = _create_environment(file, out / "environments" / name)
        folder = out / name
        _run_bench(python, harness, ["run", *shlex.split(command), "--out", str(folder)])
        if not any(folder.glob("*.json")):
            raise UserError(Message("bench run wrote no record to {folder}", folder=folder), location=str(python))
        folders.append(folder)
    return folders


def run_rounds(requirements: Sequence[Path], command: str, out: Path, first: int, count: int) -> Path:
    """Run both environments alternately, in the order A B, B A, A B and so on.

    Args:
        requirements: The old and the new requirements file, whose environments `run_in_environments` has created.
        command: Options of `bench run`.
        out: Output folder of `run_in_environments`.
        first: Number of the first round.
        count: Number of rounds.

    Returns:
        The folder of all rounds, for `compare_speed`.
    """
    sides = list(zip(("old", "new"), requirements, strict=True))
    for number in range(first, first + count):
        for side, file in sides if number % 2 else reversed(sides):
            python = out / "environments" / file.stem / "bin" / "python"
            folder = out / "rounds" / side / str(number)
            _run_bench(python, out / "harness", ["run", *shlex.split(command), "--out", str(folder)])
    return out / "rounds"


def _create_environment(requirements: Path, folder: Path) -> Path:
    """Create an environment on top of the current one and install what differs.

    Returns:
        The Python interpreter of the environment.
    """
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path_file = folder / "lib" / version / "site-packages" / "below.pth"
    path_file.write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "-r", str(requirements)]
    completed = subprocess.run(pip, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if completed.returncode:
        last_line = " ".join(completed.stderr.strip().splitlines()[-1:])
        raise UserError(
            Message("{requirements}: pip could not install it: {problem}", requirements=requirements, problem=last_line)
        )
    return python


def _run_bench(python: Path, harness: Path, arguments: Sequence[str]) -> None:
    """Run this version of bench with the libraries of another environment."""
    environment = os.environ | {"PYTHONPATH": str(harness.resolve())}
    completed = subprocess.run([str(python), "-m", "bench", *arguments], env=environment, check=False)
    if completed.returncode not in (0, 1):  # 1: some runs failed, which their records tell.
        raise UserError(
            Message(
                "bench {command} ended with exit code {code}", command=shlex.join(arguments), code=completed.returncode
            ),
            location=str(python),
        )
