"""Names to things: one door for what ships with the harness and for a stranger's methods, tasks and models."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

import bench
from bench import hub
from bench.errors import UserError, did_you_mean
from bench.method import Method

Kind = Literal["methods", "tasks", "models"]


@dataclass(frozen=True)
class RegistryEntry:
    """Something that claims a name."""

    name: str
    origin: str
    target: str
    summary: str
    warning: str | None = None
    is_family: bool = False
    """Whether it is a family: `name:KIND` names a member, its name alone none."""
    hub: str | None = None
    """The data set of the hub that a task's examples are fetched from, the first time."""


def list_entries(kind: Kind) -> dict[str, RegistryEntry]:
    """All named things of a kind, by name. Imports none of them; a name claimed twice is refused."""
    found: dict[str, RegistryEntry] = {}
    for claim in [*_shipped(kind), *_entry_points(kind)]:
        if claim.name in found:
            first = found[claim.name]
            raise UserError(
                f"the name '{claim.name}' is claimed twice among the {kind}",
                location=f"{first.origin} ({first.target}) and {claim.origin} ({claim.target})",
                hint="rename or uninstall one of them",
            )
        found[claim.name] = claim
    return dict(sorted(found.items()))


def find_method(ref: str) -> type[Method]:
    """The method class that `ref` names: a registered name, `./file.py[:Class]`, or `module:Class`.

    A registered name is followed by a kind (`peft:VERA`) where its module has a function `variant` to make that.
    """
    path, _, name = ref.partition(":")
    if path.endswith(".py"):
        return _only_method(_import_file(Path(path)), name, ref)
    known = list_entries("methods")
    if path in known:
        return _registered(known[path], name, ref)
    if name:
        return _only_method(_import(path, ref), name, ref)
    raise UserError(f"no method '{ref}'", hint=f"{did_you_mean(ref, known)}; or a path such as ./mine.py")


def missing_modules(cls: type[Method]) -> list[str]:
    """What a method needs and this Python does not have."""
    return [module for module in cls.preload_modules if importlib.util.find_spec(module.partition(".")[0]) is None]


def method_name(ref: str) -> str:
    """The name a method goes by in tables: a file is known by its stem."""
    path, _, name = ref.partition(":")
    if path.endswith(".py"):
        return Path(path).stem.replace("_", "-")
    if path in list_entries("methods"):
        return ref.lower()
    return name.lower() if name else ref


def find_task(ref: str) -> Path:
    """The folder of the task that `ref` names: a registered name, or a path."""
    known = list_entries("tasks")
    if ref in known:
        return Path(known[ref].target)
    if Path(ref).is_dir():
        return Path(ref)
    if _is_path(ref):
        raise UserError(f"no task folder '{ref}'", location=str(Path(ref).absolute()), hint="give an existing folder")
    raise UserError(f"no task '{ref}'", hint=f"{did_you_mean(ref, known)}; or a path such as ./mytask")


def find_model(ref: str) -> Path:
    """The folder of the base model that `ref` names: a shipped one, a path, or one of the hub (`org/name@commit`)."""
    known = list_entries("models")
    if ref in known:
        return Path(known[ref].target)
    place = Path(ref).expanduser()
    if place.is_dir():
        return place
    name, at, revision = ref.partition("@")
    if at and (name in known or Path(name).expanduser().is_dir()):
        raise UserError(f"--model {ref}: a folder has no revisions", hint=f"--model {name}; revisions are of the hub")
    if place.is_file():
        raise UserError(
            f"the model '{ref}' is a file, and a model is a folder",
            location=str(place.absolute()),
            hint="give the folder with config.json, weights and tokenizer",
        )
    if _is_path(ref):
        raise UserError(f"no model folder '{ref}'", location=str(place.absolute()), hint="give an existing folder")
    if name.count("/") != 1 or (at and not revision):
        raise UserError(
            f"no model '{ref}'",
            hint=f"{did_you_mean(ref, known)}; or a folder (./model), or a hub name (org/model, org/model@commit)",
        )
    return hub.fetch_model(name, revision or None)


def general_text_file() -> Path | None:
    """Text on which forgetting is measured, if it is there; it is no task, so nothing lists it."""
    files = (root / "general" / "text.jsonl" for root in _roots("tasks"))
    return next((file for file in files if file.is_file()), None)


def source_sha256(cls: type) -> str:
    """Digest of the file that defines a class, so that a record tells which code made it."""
    return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()


def _is_path(ref: str) -> bool:
    return ref.startswith((".", "/", "~"))


def _roots(kind: Kind) -> list[Path]:
    return [folder for root in bench.__path__ if (folder := Path(root) / kind).is_dir()]


def _shipped(kind: Kind) -> list[RegistryEntry]:
    found = []
    for root in _roots(kind):
        if kind == "methods":
            for file in sorted(root.glob("[!_]*.py")):
                name = file.stem.replace("_", "-")
                found.append(RegistryEntry(name, "shipped", f"bench.methods.{file.stem}", *_described(file)))
        else:
            sign = "task.yaml" if kind == "tasks" else "config.json"
            for folder in sorted(file.parent for file in root.glob(f"*/{sign}")):
                found.append(RegistryEntry(folder.name, "shipped", str(folder), _summary(folder), hub=_hub(folder)))
    return found


def _entry_points(kind: Kind) -> list[RegistryEntry]:
    found = []
    for point in metadata.entry_points(group=f"bench.{kind}"):
        origin = f"package {point.dist.name}" if point.dist else "a package"
        file = _locate(point.module)
        if file is None:
            found.append(
                RegistryEntry(point.name, origin, point.value, "", f"broken plugin: there is no {point.module}")
            )
        elif kind == "methods":
            found.append(RegistryEntry(point.name, origin, point.value, *_described(file)))
        else:
            found.append(
                RegistryEntry(point.name, origin, str(file.parent), _summary(file.parent), hub=_hub(file.parent))
            )
    return found


def _locate(module: str) -> Path | None:
    """The file of a module, found without importing it or the packages around it (`find_spec` would)."""
    path, place = None, None
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        name = ".".join(names[:depth])
        specs = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return None
        path, place = spec.submodule_search_locations, spec.origin
    return Path(place) if place else None


def _described(file: Path) -> tuple[str, str | None, bool]:
    """Summary, warning and whether it is a family, read off a method's source."""
    try:
        source = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        return "", f"does not parse: {error}", False
    kinds = any(isinstance(node, ast.FunctionDef) and node.name == "variant" for node in source.body)
    return (ast.get_docstring(source) or "").partition("\n")[0], None, kinds


def _summary(folder: Path) -> str:
    """One line on a task or model, cheaply: the card's `summary:`, or the first sentence of its README."""
    card, readme = folder / "task.yaml", folder / "README.md"
    if card.is_file():
        lines = [line.partition(":")[2] for line in card.read_text("utf-8").splitlines() if line.startswith("summary:")]
        return lines[0].strip().strip("\"'") if lines else ""
    if readme.is_file():
        prose = [part for part in readme.read_text("utf-8").split("\n\n") if part and not part.startswith(("#", "---"))]
        return " ".join(prose[0].split()).partition(". ")[0] if prose else ""
    return ""


def _hub(folder: Path) -> str | None:
    """The data set that a task's card names, read as cheaply."""
    card = folder / "task.yaml"
    pattern = r"^(?:data:\s*\{.*?|\s+)\bhub:\s*[\"']?([\w./-]+)"
    found = re.search(pattern, card.read_text("utf-8"), re.MULTILINE) if card.is_file() else None
    return found[1] if found else None


def _registered(claim: RegistryEntry, kind: str, ref: str) -> type[Method]:
    """The method of a claim, or one of the kinds that its module makes."""
    path, _, name = claim.target.partition(":")
    if kind and not claim.is_family:
        raise UserError(f"'{ref}': {claim.name} does not come in kinds", hint=f"say {claim.name}")
    if claim.is_family and not kind:
        raise UserError(f"'{ref}' is a family of methods", hint=f"say which, as in: {claim.summary}")
    module = _import(path, ref)
    return cast(type[Method], module.variant(kind)) if kind else _only_method(module, name, ref)


def _import(module: str, ref: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise UserError(
            f"the method '{ref}' does not import: {type(error).__name__}: {error}", location=module
        ) from error


def _import_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise UserError(f"no method file '{file}'", location=str(file.absolute()), hint="give an existing .py file")
    name = f"bench_stranger_{hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:8]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"'{file}' does not import: {type(error).__name__}: {error}", location=str(file)) from error
    return module


def _only_method(module: ModuleType, name: str, ref: str) -> type[Method]:
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Method)
        if (key == name if name else value.__module__ == module.__name__)
    }
    if len(found) != 1:
        raise UserError(
            f"'{ref}' must name exactly one subclass of bench.method.Method, found {len(found)}: {sorted(found)}",
            location=str(module.__file__),
            hint="name it: module:Class, or ./file.py:Class",
        )
    return next(iter(found.values()))
