"""Lookup of methods, tasks and models by name: shipped, from packages, or by path."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import yaml

import bench
from bench import hub
from bench.errors import UserError, did_you_mean
from bench.i18n import Message, literal
from bench.method import Method
from bench.source import parse_source
from bench.user_code import report_user_code

Kind = Literal["methods", "tasks", "models"]
# The parser in C reads all shipped cards in 5 ms, the one in Python in 40 ms; PyYAML may be built without the former.
# With the import of yaml a listing takes about 25 ms more CPU time than a search for the two keys by regex would.
YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

SHIPPED = Message("shipped")
FORMER_METHODS = {
    "instruct": (
        Message("prompts of every method can be turns of a chat, and lora trains on them"),
        "--methods lora --prompt-format chat",
    )
}
"""Methods of earlier versions, with what has become of them and what to type."""


@dataclass(frozen=True)
class RegistryEntry:
    """A named method, task or model that can be found without importing it."""

    name: str
    origin: str
    """`shipped`, or the package that defines it."""
    target: str
    """Module or `module:Class` of a method; folder of a task or model."""
    summary: str
    """One line for `bench list`, a `Message` for what ships; empty if there is none."""
    warning: str | None = None
    """Reason it cannot be used."""
    is_family: bool = False
    """True for a family of methods: `name:KIND` names a member, the name alone none."""
    hub: str | None = None
    """Data set of the hub from which the rows of a task are fetched at first use."""


@dataclass(frozen=True)
class Description:
    """The fields of a `RegistryEntry` that are read from its files."""

    summary: str = ""
    warning: str | None = None
    is_family: bool = False
    hub: str | None = None


def list_entries(kind: Kind) -> dict[str, RegistryEntry]:
    """Return all methods, tasks or models by name, sorted, without importing any.

    Raises:
        UserError: Two of them have the same name.
    """
    entries: dict[str, RegistryEntry] = {}
    for entry in [*_shipped_entries(kind), *_installed_entries(kind)]:
        if entry.name in entries:
            first = entries[entry.name]
            raise UserError(
                Message("two {kind} have the name '{method}'", kind=kind, method=entry.name),
                location=Message(
                    "{first} ({first_target}) and {second} ({second_target})",
                    first=first.origin,
                    first_target=first.target,
                    second=entry.origin,
                    second_target=entry.target,
                ),
                hint=Message("rename or uninstall one of them"),
            )
        entries[entry.name] = entry
    return dict(sorted(entries.items()))


def find_method(ref: str) -> type[Method]:
    """Return the method class that `ref` names, importing its module.

    Args:
        ref: A registered name, a member of a family (`peft:VERA`), `./file.py[:Class]`, or `module:Class`.

    Raises:
        UserError: There is no such method, or it cannot be imported.
    """
    target, _, name = ref.partition(":")
    if target.endswith(".py"):
        return _select_method(_import_file(Path(target)), name, ref)
    entries = list_entries("methods")
    if target in entries:
        return _import_registered(entries[target], name, ref)
    if name:
        return _select_method(_import_module(target, ref), name, ref)
    raise _method_not_found(ref, entries)


def find_method_file(ref: str) -> Path:
    """Return the file of the module that `ref` names, see `find_method`; nothing is imported.

    Raises:
        UserError: There is no such file.
    """
    target, _, name = ref.partition(":")
    if target.endswith(".py"):
        return _existing_file(Path(target))
    entries = list_entries("methods")
    if target not in entries and not name:
        raise _method_not_found(ref, entries)
    module = entries[target].target.partition(":")[0] if target in entries else target
    file = _find_module_file(module)
    if file is None:
        raise UserError(
            Message("method '{name}' not found: there is no module {module}", name=ref, module=module),
            hint=Message("install the package of the method"),
        )
    return file


def _method_not_found(ref: str, entries: Iterable[str]) -> UserError:
    if ref in FORMER_METHODS:
        problem, hint = FORMER_METHODS[ref]
        return UserError(
            Message("the method '{name}' no longer exists: {problem}", name=ref, problem=problem), hint=hint
        )
    file = Path(f"{ref}.py")
    hint = (
        Message("did you mean ./{file}?", file=file)
        if file.is_file()
        else Message("{suggestion}; or use a path such as ./mine.py", suggestion=did_you_mean(ref, entries))
    )
    return UserError(Message("method '{name}' not found", name=ref), hint=hint)


def is_shipped_method(file: Path) -> bool:
    """Return True for the file of a method that ships with adaptbench."""
    return file.absolute().parent in _search_folders("methods")


def is_shipped_task(folder: Path) -> bool:
    """Return True for the folder of a task that ships with adaptbench."""
    return folder.absolute().parent in _search_folders("tasks")


def missing_modules(cls: type[Method]) -> list[str]:
    """Return the modules that a method imports and that are not installed."""
    with report_user_code(source_file(cls), Message("preload_modules must be a tuple of module names")):
        return [module for module in cls.preload_modules if importlib.util.find_spec(module.partition(".")[0]) is None]


def method_name(ref: str) -> str:
    """Return a method's name in tables; for a file its stem (`my-way` for `./my_way.py`)."""
    target, _, name = ref.partition(":")
    if target.endswith(".py"):
        return Path(target).stem.replace("_", "-")
    if target in list_entries("methods"):
        return ref.lower()
    return name.lower() if name else ref


def find_task(ref: str) -> Path:
    """Return the folder of the task that `ref` names.

    Args:
        ref: A registered name or the path of a folder.

    Raises:
        UserError: There is no such task.
    """
    entries = list_entries("tasks")
    if ref in entries:
        return Path(entries[ref].target)
    if Path(ref).is_dir():
        return Path(ref)
    if _is_path(ref):
        location = str(Path(ref).absolute())
        raise UserError(
            Message("task folder '{name}' not found", name=ref),
            location=location,
            hint=Message("use an existing folder"),
        )
    raise UserError(
        Message("task '{name}' not found", name=ref),
        hint=Message("{suggestion}; or use a path such as ./mytask", suggestion=did_you_mean(ref, entries)),
    )


def is_shipped_model(ref: str) -> bool:
    """Tell if a reference names a model that ships, a small one for demonstrations."""
    return Path(ref).name == ref and any((root / ref / "config.json").is_file() for root in _search_folders("models"))


def find_model(ref: str) -> Path:
    """Return the folder of a base model; a hub model is downloaded at first use.

    Args:
        ref: A registered name, the path of a folder, or a name of the hub (`org/model`, `org/model@commit`).

    Raises:
        UserError: There is no such model.
    """
    entries = list_entries("models")
    if ref in entries:
        return Path(entries[ref].target)
    path = Path(ref).expanduser()
    if path.is_dir():
        return path
    name, at, revision = ref.partition("@")
    if at and (name in entries or Path(name).expanduser().is_dir()):
        raise UserError(
            Message("--model {name}: a folder has no revisions", name=ref),
            hint=Message("--model {name}; only models of the hub have revisions", name=name),
        )
    if path.is_file():
        raise UserError(
            Message("the model '{name}' is a file, but a model is a folder", name=ref),
            location=str(path.absolute()),
            hint=Message("use the folder with config.json, weights and tokenizer"),
        )
    if _is_path(ref):
        location = str(path.absolute())
        raise UserError(
            Message("model folder '{name}' not found", name=ref),
            location=location,
            hint=Message("use an existing folder"),
        )
    if name.count("/") != 1 or (at and not revision):
        raise UserError(
            Message("model '{name}' not found", name=ref),
            hint=Message(
                "{suggestion}; or use a folder (./model) or a name of the hub (org/model, org/model@commit)",
                suggestion=did_you_mean(ref, entries),
            ),
        )
    return hub.fetch_model(name, revision or None)


def general_text_file() -> Path | None:
    """Return the file of general text for measuring forgetting; None if not installed."""
    files = (root / "general" / "text.jsonl" for root in _search_folders("tasks"))
    return next((file for file in files if file.is_file()), None)


def source_file(cls: type) -> Path:
    """Return the file that defines a class."""
    return Path(inspect.getfile(cls))


def source_sha256(cls: type) -> str:
    """Return the SHA-256 of the file that defines a class, the version of a method."""
    return hashlib.sha256(source_file(cls).read_bytes()).hexdigest()


def _is_path(ref: str) -> bool:
    return ref.startswith((".", "/", "~"))


def _search_folders(kind: Kind) -> list[Path]:
    """Return the folders `methods`, `tasks` or `models` of the package and of a checkout."""
    return [folder for root in bench.__path__ if (folder := Path(root) / kind).is_dir()]


def _shipped_entries(kind: Kind) -> list[RegistryEntry]:
    entries = []
    for root in _search_folders(kind):
        if kind == "methods":
            for file in sorted(root.glob("[!_]*.py")):
                name, module = file.stem.replace("_", "-"), f"bench.methods.{file.stem}"
                entries.append(_shipped_entry(name, module, describe_method(file)))
        else:
            required_file = "task.yaml" if kind == "tasks" else "config.json"
            for folder in sorted(file.parent for file in root.glob(f"*/{required_file}")):
                entries.append(_shipped_entry(folder.name, str(folder), describe_folder(folder)))
    return entries


def _shipped_entry(name: str, target: str, description: Description) -> RegistryEntry:
    """Return the entry of what ships; its summary has translations."""
    return RegistryEntry(name, SHIPPED, target, **vars(description) | {"summary": literal(description.summary)})


def _installed_entries(kind: Kind) -> list[RegistryEntry]:
    """Return the entry points of the group `bench.<kind>` of installed packages."""
    entries = []
    for point in metadata.entry_points(group=f"bench.{kind}"):
        origin = Message("package {name}", name=point.dist.name) if point.dist else Message("a package")
        file = _find_module_file(point.module)
        if file is None:
            broken = Description(warning=Message("broken plugin: module {module} not found", module=point.module))
            entries.append(RegistryEntry(point.name, origin, point.value, **vars(broken)))
        elif kind == "methods":
            entries.append(RegistryEntry(point.name, origin, point.value, **vars(describe_method(file))))
        else:
            folder = file.parent
            entries.append(RegistryEntry(point.name, origin, str(folder), **vars(describe_folder(folder))))
    return entries


def _find_module_file(module: str) -> Path | None:
    """Return a module's file without importing its packages, as `find_spec` would."""
    search_path, file = None, None
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        name = ".".join(names[:depth])
        specs = (finder.find_spec(name, search_path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return None
        # The path of an imported package may be longer than its spec says, as that of `bench` is in a checkout.
        search_path = getattr(sys.modules.get(name), "__path__", spec.submodule_search_locations)
        file = spec.origin
    return Path(file) if file else None


_parsed_methods: dict[Path, tuple[tuple[int, int], Description]] = {}
_parsed_methods_lock = threading.Lock()


def describe_method(file: Path) -> Description:
    """Describe a method from its source, parsed again only after the file has changed."""
    with _parsed_methods_lock:
        try:
            status = file.stat()
            version = (status.st_mtime_ns, status.st_size)
            if file not in _parsed_methods or _parsed_methods[file][0] != version:
                _parsed_methods[file] = (version, _parse_method(file))
        except OSError as error:
            return Description(warning=Message("cannot be read: {problem}", problem=error))
        return _parsed_methods[file][1]


def _parse_method(file: Path) -> Description:
    try:
        tree = parse_source(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        return Description(warning=Message("cannot be parsed: {problem}", problem=error))
    is_family = any(isinstance(node, ast.FunctionDef) and node.name == "variant" for node in tree.body)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Description(summary, is_family=is_family)


def describe_folder(folder: Path) -> Description:
    """Describe a task by its card, or a model by the first sentence of its README.

    The card is not validated, so that a task with an invalid card is listed as well.
    """
    card, readme = folder / "task.yaml", folder / "README.md"
    if card.is_file():
        return _describe_card(card)
    if readme.is_file():
        paragraphs = readme.read_text("utf-8").split("\n\n")
        prose = [text for text in paragraphs if text and not text.startswith(("#", "---"))]
        return Description(" ".join(prose[0].split()).partition(". ")[0] if prose else "")
    return Description()


def _describe_card(card: Path) -> Description:
    try:
        content = yaml.load(card.read_bytes(), YAML_LOADER)
    except yaml.YAMLError:
        return Description(warning=Message("task.yaml is not valid UTF-8 YAML"))
    if not isinstance(content, dict):
        return Description(warning=Message("task.yaml must hold keys and values"))
    dataset = content.get("data")
    hub_name = dataset.get("hub") if isinstance(dataset, dict) else None
    return Description(str(content.get("summary", "")), hub=None if hub_name is None else str(hub_name))


def _import_registered(entry: RegistryEntry, kind: str, ref: str) -> type[Method]:
    """Import the method of an entry, or the member `kind` of a family."""
    target, _, name = entry.target.partition(":")
    if kind and not entry.is_family:
        raise UserError(
            Message("'{name}': the method {method} takes no name after the colon", name=ref, method=entry.name),
            hint=Message("use {method}", method=entry.name),
        )
    if entry.is_family and not kind:
        raise UserError(
            Message("'{name}' is a family of methods", name=ref),
            hint=Message("name a member, as in: {summary}", summary=entry.summary),
        )
    module = _import_module(target, ref)
    if not kind:
        return _select_method(module, name, ref)
    with report_user_code(
        _find_module_file(target), Message("'{name}' cannot be created", name=ref), place=target, keep=(UserError,)
    ):
        return cast(type[Method], module.variant(kind))


def _import_module(module: str, ref: str) -> ModuleType:
    with report_user_code(
        _find_module_file(module), Message("the method '{name}' cannot be imported", name=ref), place=module
    ):
        return importlib.import_module(module)


def _import_file(file: Path) -> ModuleType:
    """Import a method file under a unique name: folders may hold files of the same name."""
    _existing_file(file)
    name = f"bench_method_{hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:8]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with report_user_code(file, Message("'{file}' cannot be imported", file=file)):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _existing_file(file: Path) -> Path:
    if not file.is_file():
        location = str(file.absolute())
        raise UserError(
            Message("method file '{file}' not found", file=file),
            location=location,
            hint=Message("use an existing .py file"),
        )
    return file


def _select_method(module: ModuleType, name: str, ref: str) -> type[Method]:
    """Return the class `name` of a module; without a name, its only method."""
    methods = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Method)
        if (key == name if name else value.__module__ == module.__name__)
    }
    if len(methods) != 1:
        raise UserError(
            Message(
                "'{name}' must name exactly one subclass of bench.method.Method, found {number}: {names}",
                name=ref,
                number=len(methods),
                names=sorted(methods),
            ),
            location=str(module.__file__),
            hint=Message("name the class: module:Class, or ./file.py:Class"),
        )
    return next(iter(methods.values()))
