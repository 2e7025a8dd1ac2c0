"""The same runs in two environments on one machine, so that an upgrade of libraries is judged before it is made."""

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

OWN = ("harness", "environments", "rounds")  # what lies beside the folders of records


def run_in_environments(requirements: Sequence[Path], command: str, out: Path) -> list[Path]:
    """Run `bench run` with these options in an environment for each file of requirements; the folders of the records.

    Raises `UserError` where a file is missing, cannot be installed, or the command is refused.
    """
    for file in requirements:
        if not file.is_file():
            raise UserError(f"{file}: no such file of requirements")
    names = [file.stem for file in requirements]
    if len({*names, *OWN}) < len(names) + len(OWN):
        told = f"the files of requirements name the folders of their records: {', '.join(names)}"
        raise UserError(told, hint=f"call them by what they hold, two names, and none of {', '.join(OWN)}")
    harness = out / "harness"
    if out.exists() and any(out.iterdir()) and not (harness / "bench").is_symlink():
        raise UserError(
            f"--out {out}: holds something else, which would be lost",
            hint="name a folder that is new, or one that a comparison of stacks has made",
        )
    if out.exists():
        shutil.rmtree(out)  # what is left of other stacks would be kept by pip, and by runs
    harness.mkdir(parents=True)
    (harness / "bench").symlink_to(Path(bench.__file__).resolve().parent)  # it alone, and none of its neighbours
    folders = []
    for file, name in zip(requirements, names, strict=True):
        python = _environment(file, out / "environments" / name)
        folders.append(out / name)
        _bench(python, harness, ["run", *shlex.split(command), "--out", str(out / name)])
        if not any(folders[-1].glob("*.json")):
            raise UserError(f"bench run left no record in {out / name}", location=str(python))
    return folders


def run_rounds(requirements: Sequence[Path], command: str, out: Path, first: int, count: int) -> Path:
    """Run the same in both environments again, in turns, A B, B A, A B, …; the folder of the rounds' records.

    `run` must have made the environments; `first` is the number of the first round.
    """
    sides = list(zip(("old", "new"), requirements, strict=True))
    for number in range(first, first + count):
        for side, file in sides if number % 2 else reversed(sides):
            python = out / "environments" / file.stem / "bin" / "python"
            place = out / "rounds" / side / str(number)
            _bench(python, out / "harness", ["run", *shlex.split(command), "--out", str(place)])
    return out / "rounds"


def _environment(file: Path, place: Path) -> Path:
    """This environment, and on top of it what a file of requirements asks for: only the difference is installed."""
    python = place / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    below = place / "lib" / version / "site-packages" / "below.pth"
    below.write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "-r", str(file)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise UserError(f"{file}: pip could not install it: {' '.join(last)}")
    return python


def _bench(python: Path, harness: Path, arguments: Sequence[str]) -> None:
    """This very harness, with the libraries of another environment."""
    path = {"PYTHONPATH": str(harness.resolve())}
    done = subprocess.run([str(python), "-m", "bench", *arguments], env=os.environ | path, check=False)
    if done.returncode not in (0, 1):
        raise UserError(f"bench {shlex.join(arguments)} ended with exit code {done.returncode}", location=str(python))
