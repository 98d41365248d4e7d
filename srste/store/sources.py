"""The modules that code depends on, found in their syntax trees without importing anything.

A module counts with all that it imports, wherever the import stands, and with the packages that
contain it, whose ``__init__`` Python runs first. Imports are followed within the importing module's
package, into srste, and into every module that is not installed: in the working folder, on
PYTHONPATH, in an editable install. Installed ones (the standard library, site-packages,
dist-packages) are not followed from outside.

Recognised are ``import`` and ``from ... import`` in every form, and ``importlib.import_module`` of
a literal. If a package that is not installed imports computed names, or files by path, all its
modules count. Not recognised: such imports in installed modules, code in strings, data files.
"""

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
from itertools import accumulate, takewhile
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STANDARD = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_BY_NAME = frozenset({"import_module", "__import__"})
_BY_PATH = frozenset({"spec_from_file_location", "run_path", "run_module"})


def modules_of(names: Iterable[str], without: Iterable[str] = ()) -> frozenset[str]:
    """Return the modules with code that the named ones depend on, those included.

    Args:
        names: of modules, or of classes (nested ones too) and functions in them.
        without: modules and packages that neither count nor are followed.
    """
    excluded = tuple(f"{module}." for module in without)
    reached: set[str] = set()
    waiting = [module for name in names for module in _modules_in(name)]
    while waiting:
        module = waiting.pop()
        if module not in reached and not f"{module}.".startswith(excluded):
            reached.add(module)
            waiting += _dependencies(module)
    return frozenset(module for module in reached if source_of(module))


@cache
def source_of(module: str) -> bytes:
    """Return the content of a module's file, also of a compiled one; empty without a file. It is
    read once: a process keeps to the code that it has imported when the file changes."""
    _read.add(module)
    return _content_of(module)


_read: set[str] = set()


def changed_since_read() -> list[str]:
    """Return the modules whose files have changed since :func:`source_of` read them."""
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
    """Return where a module is; None if there is none. Unlike importlib's, this does not import the
    packages that contain it."""
    package, _, _ = module.rpartition(".")
    if not package:
        return _top_level_spec(module)
    portions: list[str] = []
    for folder in _folders_of(package):
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(module) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec and spec.submodule_search_locations) or ()
    if not portions:
        return None
    namespace = ModuleSpec(module, None, is_package=True)  # folders without __init__
    namespace.submodule_search_locations = portions
    return namespace


def _folders_of(module: str) -> list[str]:
    """Return the folders that the modules of a package are in; none of another module."""
    spec = _spec(module)
    return list((spec and spec.submodule_search_locations) or ())


def _top_level_spec(module: str) -> ModuleSpec | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # setuptools' finder of distutils has something to say
            return find_spec(module)
    except (ImportError, ValueError):  # ValueError: an imported module without a spec, such as a script
        file = getattr(sys.modules.get(module), "__file__", None)
        return ModuleSpec(module, SourceFileLoader(module, file), origin=file) if file else None


def _modules_in(name: str) -> Iterator[str]:
    """Return the modules in a dotted name: pkg and pkg.mod of pkg.mod.Outer.Inner."""
    return takewhile(_spec, accumulate(name.split("."), "{}.{}".format))


@cache
def _dependencies(module: str) -> frozenset[str]:
    """Return the modules that count of those that a module imports, with their packages."""
    top = module.partition(".")[0]
    counting: set[str] = set()
    for name in _imported_names(module):
        first = name.partition(".")[0]
        inside = first in (top, "srste")
        if inside or not _is_installed(first):
            counting.update(m for m in _modules_in(name) if inside or not _is_installed(m))
    return frozenset(counting)


@cache
def _is_installed(module: str) -> bool:
    """Return whether its file is installed; a namespace package has no file and is not."""
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.has_location:
        return False
    path = Path(spec.origin)
    return bool(_INSTALLED & set(path.parts)) or any(path.is_relative_to(s) for s in _STANDARD)


def _imported_names(module: str) -> set[str]:
    """Return the dotted names in a module's imports; of `from a import b` both a and a.b, which may
    be a module."""
    nodes = list(ast.walk(_parsed(module)))
    package = module if _folders_of(module) else module.rpartition(".")[0]
    names: set[str] = set()

    def add(name: str) -> None:
        with suppress(ImportError):  # more dots than there are packages
            names.add(resolve_name(name, package))

    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            add(source)
            dotted = source if source.endswith(".") else f"{source}."
            for alias in node.names:
                for last in _exported(source, package) if alias.name == "*" else (alias.name,):
                    add(f"{dotted}{last}")
        elif isinstance(node, ast.Call) and _imports_literal(node):
            add(node.args[0].value)  # type: ignore[attr-defined]
    if package and not _is_installed(module) and _imports_computed_names(nodes):
        names.update(_submodules(package.partition(".")[0]))
    return names


def _parsed(module: str) -> ast.Module:
    """Return a module's syntax tree, an empty one of a compiled module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about doubtful code
        try:
            return ast.parse(source_of(module))
        except (SyntaxError, ValueError):
            return ast.Module([], [])


def _exported(source: str, package: str) -> Iterator[str]:
    """Yield what `from source import *` may import: the strings in `__all__`."""
    try:
        tree = _parsed(resolve_name(source, package))
    except ImportError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                values = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
                yield from (value for value in values if isinstance(value, str))


def _last_name(node: ast.AST) -> str:
    """Return the last part of a dotted name; "" of other nodes."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _imports_literal(call: ast.Call) -> bool:
    """Return whether a call is `import_module("...")`."""
    name = call.args[0] if call.args and _last_name(call.func) in _BY_NAME else None
    return isinstance(name, ast.Constant) and isinstance(name.value, str)


def _imports_computed_names(nodes: list[ast.AST]) -> bool:
    """Return whether a module with these nodes imports names, or files by path, that only running it
    tells."""
    literal = {id(n.func) for n in nodes if isinstance(n, ast.Call) and _imports_literal(n)}
    for node in nodes:
        name = _last_name(node)
        if name in _BY_PATH or (name in _BY_NAME and id(node) not in literal):
            return True
        if isinstance(node, ast.ImportFrom):
            renamed = {alias.name for alias in node.names if alias.asname}
            if renamed & _BY_NAME or {alias.name for alias in node.names} & _BY_PATH:
                return True
    return False


def _submodules(package: str) -> Iterator[str]:
    """Yield every module of a package."""
    for folder in _folders_of(package):
        for path in Path(folder).rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])
