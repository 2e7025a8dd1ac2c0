"""Records and artifacts get into the folder of results whole, and nothing good is lost, whenever a command ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeRecord

from bench import scratch
from bench.errors import StorageError, UserError
from bench.execution import result_folder
from bench.records import Failure, Record, read_all


def write_new(record: Record, new: Path, artifact: str | None) -> None:
    """Write a record and an artifact as a worker does."""
    record.write(new)
    if artifact is not None:
        (new / record.id).mkdir()
        (new / record.id / "weights").write_text(artifact, "utf-8")


def store(record: Record, out: Path, artifact: str | None = None) -> None:
    with result_folder.new_results(out) as new:
        write_new(record, new, artifact)
        result_folder.store_record(record, new, out)


def contents(out: Path) -> dict[str, str]:
    """Return the relevant content of all files: status and score of records, text of artifacts."""
    content_by_name = {}
    for file in sorted(out.rglob("*")):
        name = str(file.relative_to(out))
        if file.name == "weights":
            content_by_name[name.replace(file.parent.name, "ID")] = file.read_text("utf-8")
        elif ".json" in file.name:
            record = Record.read(file)
            content_by_name[name.replace(record.id, "ID")] = f"{record.status} {record.scores['em']}"
        elif file.is_file():
            content_by_name[name] = ""
    return content_by_name


@pytest.fixture
def failed(make_record: MakeRecord) -> Record:
    return make_record(status="error", em=0.0, error=Failure(kind="WorkerDied", message="killed", trace=None))


def test_store_record_replaces_record_and_artifact_together(make_record: MakeRecord, tmp_path: Path) -> None:
    store(make_record(em=0.25), tmp_path, "old")
    assert contents(tmp_path) == {"ID.json": "ok 0.25", "ID/weights": "old"}
    store(make_record(em=0.5), tmp_path, "new")
    assert contents(tmp_path) == {"ID.json": "ok 0.5", "ID/weights": "new"}
    store(make_record(em=0.75), tmp_path)
    assert contents(tmp_path) == {"ID.json": "ok 0.75"}


def test_store_record_failure_never_replaces_a_good_record(
    make_record: MakeRecord, failed: Record, tmp_path: Path
) -> None:
    store(failed, tmp_path, "half")
    assert contents(tmp_path) == {"ID.json": "error 0.0"}
    store(make_record(em=0.25), tmp_path, "old")
    store(failed, tmp_path, "half")
    assert contents(tmp_path) == {"ID.json": "ok 0.25", "ID.json.failed": "error 0.0", "ID/weights": "old"}
    assert result_folder.stored_file(failed, tmp_path).name == f"{failed.id}.json.failed"
    assert [record.status for record in read_all(tmp_path)] == ["ok"], "the failure is no second record of the run"
    store(make_record(em=0.5), tmp_path)
    assert contents(tmp_path) == {"ID.json": "ok 0.5"}


class Killed(BaseException):
    """Stands for the end of the process at one step."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Ends the process at a renaming, counted from 0, and leaves the scratch folder as SIGKILL would."""
    step = -1

    def rename(self: Path, target: Path, original: object = None) -> Path:
        nonlocal step
        if step == 0:
            raise Killed
        step -= 1
        os.replace(self, target)
        return target

    def begin(number: int) -> None:
        nonlocal step
        step = number
        for name in ("rename", "replace"):
            monkeypatch.setattr(Path, name, rename)
        monkeypatch.setattr(scratch, "_remove_locked_folder", lambda folder, lock: lock.release())

    yield begin


@pytest.mark.parametrize("step", range(4))
def test_recover_results_after_a_kill_at_any_step_gives_old_or_new(
    make_record: MakeRecord, tmp_path: Path, killed_at: object, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    store(make_record(em=0.25), tmp_path, "old")
    with monkeypatch.context(), pytest.raises(Killed), result_folder.new_results(tmp_path) as new:
        write_new(make_record(em=0.5), new, "new")
        killed_at(step)  # type: ignore[operator]
        result_folder.store_record(make_record(em=0.5), new, tmp_path)
    monkeypatch.undo()
    assert Record.read(tmp_path / f"{make_record().id}.json").status == "ok"
    result_folder.recover_results(tmp_path)
    old, new_results = {"ID.json": "ok 0.25", "ID/weights": "old"}, {"ID.json": "ok 0.5", "ID/weights": "new"}
    assert contents(tmp_path) == (old if step == 0 else new_results)


@pytest.mark.parametrize("step", range(4))
def test_store_record_interrupted_at_any_step_gives_old_or_new(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    store(make_record(em=0.25), tmp_path, "old")
    steps = iter(range(step + 1))

    def rename(self: Path, target: Path) -> Path:
        if next(steps, None) == step:
            raise KeyboardInterrupt
        os.replace(self, target)
        return target

    with pytest.raises(KeyboardInterrupt), result_folder.new_results(tmp_path) as new:
        write_new(make_record(em=0.5), new, "new")
        for name in ("rename", "replace"):
            monkeypatch.setattr(Path, name, rename)
        result_folder.store_record(make_record(em=0.5), new, tmp_path)
    old, new_results = {"ID.json": "ok 0.25", "ID/weights": "old"}, {"ID.json": "ok 0.5", "ID/weights": "new"}
    assert contents(tmp_path) == (old if step == 0 else new_results)


def test_scratch_folder_elsewhere_keeps_whole_results_of_a_killed_run(
    make_record: MakeRecord, tmp_path: Path, killed_at: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed), result_folder.new_results(tmp_path) as new:
        write_new(make_record(em=0.5), new, "new")
        killed_at(1)  # type: ignore[operator]
        result_folder.store_record(make_record(em=0.5), new, tmp_path)
    monkeypatch.undo()
    with scratch.scratch_folder(tmp_path):  # as `bench export --to` into the folder of results
        pass
    result_folder.recover_results(tmp_path)
    assert contents(tmp_path) == {"ID.json": "ok 0.5", "ID/weights": "new"}


def test_has_good_record_unreadable_file_is_an_error(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(make_record(em=0.25), tmp_path)

    def fail(file: Path) -> Record:
        raise UserError("cannot be read", location=str(file))

    monkeypatch.setattr(Record, "read", fail)
    with pytest.raises(UserError, match="cannot be read"):
        result_folder.has_good_record(tmp_path, make_record().id)


def test_store_record_without_room_keeps_the_old_record(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(make_record(em=0.25), tmp_path, "old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self))

    with pytest.raises(StorageError, match="no space left") as error, result_folder.new_results(tmp_path) as new:
        write_new(make_record(em=0.5), new, "new")
        monkeypatch.setattr(Path, "replace", fail)
        result_folder.store_record(make_record(em=0.5), new, tmp_path)
    monkeypatch.undo()
    assert error.value.exit_code == 1 and error.value.location and error.value.hint
    assert contents(tmp_path) == {"ID.json": "ok 0.25", "ID/weights": "old"}


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_folder_lock_not_a_regular_file_is_an_error(tmp_path: Path, kind: str) -> None:
    lock, elsewhere = tmp_path / ".lock", tmp_path / "elsewhere"
    make = {"link": lambda: lock.symlink_to(elsewhere), "folder": lock.mkdir, "pipe": lambda: os.mkfifo(lock)}
    make[kind]()
    with pytest.raises(UserError, match="not a regular file") as error:
        result_folder.folder_lock(tmp_path, lambda state: None)
    assert error.value.exit_code == 2 and str(lock) in str(error.value) and not elsewhere.exists()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_check_record_path_not_a_file_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run-s0.json"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(UserError, match="path of a record is not a regular file"):
        result_folder.check_record_path(tmp_path, "run-s0")


@pytest.mark.parametrize("number", [28, 122, 30, 13, 27])
def test_storage_errors_names_reason_and_file(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError) as error, result_folder.storage_errors(tmp_path):
        raise OSError(number, "x", str(tmp_path / "file"))
    assert os.strerror(number).lower() in error.value.message and error.value.location == str(tmp_path / "file")
    with pytest.raises(ConnectionError), result_folder.storage_errors(tmp_path):
        raise ConnectionError(104, "not of the file system")
