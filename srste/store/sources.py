"""Which modules a piece of code is built on, read from their files: nothing is imported for it.

A module counts with all that it imports, wherever in it the import stands, and with the packages that it
lies in, whose ``__init__`` Python runs first. Imports are followed within the importing module's own
package, into srste, and into every module that is not installed: a file or package in the working folder
or on PYTHONPATH, an editable install. What is installed (the standard library, a folder named
site-packages or dist-packages) is not followed from outside.

Seen are ``import`` and ``from ... import`` in every form, and ``importlib.import_module`` with a text as
its name. Of a package that is not installed and imports by names that it makes, or files by their paths,
every module counts. Not seen: what other modules import in these ways, names in a text that is executed,
data files.
"""

from __future__ import annotations

import ast
import pkgutil
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, resolve_name
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STANDARD = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_BY_NAME = frozenset({"import_module", "__import__"})
_BY_PATH = frozenset({"spec_from_file_location", "run_path", "run_module"})


def modules_of(names: Iterable[str], without: Iterable[str] = ()) -> frozenset[str]:
    """The modules that have code, of those in the dotted names and all that these are built on.

    Args:
        names: of modules, or of what is in them: classes, nested ones too, functions.
        without: modules and packages that neither count nor are followed.
    """
    left_out = tuple(f"{place}." for place in without)
    reached: set[str] = set()
    waiting = [module for name in names for module in _along(name)]
    while waiting:
        module = waiting.pop()
        if module not in reached and not f"{module}.".startswith(left_out):
            reached.add(module)
            waiting += _imported(module)
    return frozenset(module for module in reached if source_of(module))


@cache
def source_of(module: str) -> bytes:
    """The content of a module's file, compiled ones included; empty where there is none. It is read once
    a process, which goes on with what it has imported when the file is changed."""
    _read.add(module)
    return _content_of(module)


_read: set[str] = set()


def changed_since_read() -> list[str]:
    """The modules whose files are no longer what :func:`source_of` has read."""
    return sorted(module for module in _read if _content_of(module) != source_of(module))


def _content_of(module: str) -> bytes:
    spec = _spec(module)
    get_data = getattr(spec.loader, "get_data", None) if spec else None
    if spec is None or spec.origin is None or get_data is None:
        return b""
    try:
        return bytes(get_data(spec.origin))
    except OSError:
        return b""


@cache
def _spec(module: str) -> ModuleSpec | None:
    """Where a module is; None if there is none. Unlike importlib's own, it does not import packages to
    look into them."""
    package, _, _ = module.rpartition(".")
    if not package:
        return _spec_at_the_top(module)
    parent = _spec(package)
    portions: list[str] = []
    for folder in (parent.submodule_search_locations if parent else None) or ():
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(module) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec.submodule_search_locations if spec else None) or ()
    return _of_a_namespace(module, portions) if portions else None


def _spec_at_the_top(module: str) -> ModuleSpec | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # setuptools' finder of distutils has something to say
            return find_spec(module)
    except (ImportError, ValueError):  # ValueError: for one thing a script, which is imported already
        file = getattr(sys.modules.get(module), "__file__", None)
        return ModuleSpec(module, SourceFileLoader(module, file), origin=file) if file else None


def _of_a_namespace(module: str, portions: list[str]) -> ModuleSpec:
    """Of a folder without ``__init__``, or of several in different places."""
    spec = ModuleSpec(module, None, is_package=True)
    spec.submodule_search_locations = portions
    return spec


def _along(name: str) -> Iterator[str]:
    """The modules on the way to a dotted name: pkg and pkg.mod of pkg.mod.Outer.Inner."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        if _spec(module) is None:
            return
        yield module


@cache
def _imported(module: str) -> frozenset[str]:
    """The modules that a module imports, with the packages that they lie in, as far as they count."""
    top = module.partition(".")[0]
    counting: set[str] = set()
    for name in _names_imported(module):
        first = name.partition(".")[0]
        inside = first in (top, "srste")
        if inside or not _is_installed(first):
            counting.update(m for m in _along(name) if inside or not _is_installed(m))
    return frozenset(counting)


@cache
def _is_installed(module: str) -> bool:
    """Whether its file is; a namespace has none of its own, and may have parts in several places."""
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.has_location:
        return False
    path = Path(spec.origin)
    return bool(_INSTALLED & set(path.parts)) or any(path.is_relative_to(s) for s in _STANDARD)


def _names_imported(module: str) -> set[str]:
    """The dotted names in a module's imports; of `from a import b` both a.b, which may be one, and a."""
    tree = _parsed(module)
    spec = _spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    package = module if is_package else module.rpartition(".")[0]
    names: set[str] = set()

    def add(name: str) -> None:
        with suppress(ImportError):  # more dots than there are packages
            names.add(resolve_name(name, package))

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            add(source)
            dotted = source if source.endswith(".") else f"{source}."
            for alias in node.names:
                for last in _listed_in(source, package) if alias.name == "*" else (alias.name,):
                    add(f"{dotted}{last}")
        elif isinstance(node, ast.Call) and _imports_a_text(node):
            add(node.args[0].value)  # type: ignore[attr-defined]
    if package and not _is_installed(module) and _imports_what_it_makes(tree):
        names.update(_all_below(package.partition(".")[0]))
    return names


def _parsed(module: str) -> ast.Module:
    """A module's syntax tree; an empty one of what is no Python, such as a compiled module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is doubtful in the code: not of concern here
        try:
            return ast.parse(source_of(module))
        except (SyntaxError, ValueError):
            return ast.Module([], [])


def _listed_in(source: str, package: str) -> Iterator[str]:
    """What `from source import *` may import: the texts in `__all__`."""
    try:
        tree = _parsed(resolve_name(source, package))
    except ImportError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                texts = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
                yield from (text for text in texts if isinstance(text, str))


def _called(node: ast.AST) -> str:
    """The last word of what a node names."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _imports_a_text(call: ast.Call) -> bool:
    """Whether it is `import_module("...")`."""
    name = call.args[0] if call.args and _called(call.func) in _BY_NAME else None
    return isinstance(name, ast.Constant) and isinstance(name.value, str)


def _imports_what_it_makes(tree: ast.Module) -> bool:
    """Whether a module imports by names, or files by paths, that only running it tells."""
    texts = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call) and _imports_a_text(n)}
    for node in ast.walk(tree):
        if _called(node) in _BY_PATH or (_called(node) in _BY_NAME and id(node) not in texts):
            return True
        if isinstance(node, ast.ImportFrom):
            renamed = {alias.name for alias in node.names if alias.asname}
            if renamed & _BY_NAME or {alias.name for alias in node.names} & _BY_PATH:
                return True
    return False


def _all_below(package: str) -> Iterator[str]:
    """Every module of a package."""
    spec = _spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in Path(folder).rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])
