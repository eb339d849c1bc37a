"""Which files decide a number, and digests of what they do: the code of a result, without lists kept by hand.

A file decides numbers by where it lies (`DECIDES`, and the files of components) and because it is reached along
imports. Its content digest leaves out what cannot change a number: import statements, comments, docstrings,
annotations and the text of errors. No digest holds a file's name, so that moving or rewording code changes nothing.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import TypeGuard, TypeVar

from bench.core.digest import digest
from bench.core.errors import UserError
from bench.core.files import write

BENCH = Path(__file__).parent.parent
# Of the package `bench`: folders and files in which code decides numbers. What only stores, draws or parses does not.
DECIDES = ("core", "data", "dp", "models", "games", "runner/play.py")

Documented = TypeVar("Documented", ast.Module, ast.ClassDef, ast.FunctionDef)


def code_digest(roots: Iterable[Path], also: tuple[str, ...] = ()) -> str:
    """Stands for the code that `roots` and all that they reach make up; also: folders that count as deciding here."""
    return _code_digest(frozenset(roots), also)


@functools.cache
def _code_digest(roots: frozenset[Path], also: tuple[str, ...]) -> str:
    return digest(sorted(map(content_digest, reached(roots, also))))


def reached(roots: Iterable[Path], also: tuple[str, ...] = ()) -> frozenset[Path]:
    """The roots and every deciding file that they import, directly or not; imports for type checkers do not count."""
    found = set(roots)
    ahead = list(found)
    while ahead:
        new = {path for path in imports(ahead.pop()) if decides(path, also)} - found
        found |= new
        ahead += new
    return frozenset(found)


@functools.cache
def decides(path: Path, also: tuple[str, ...] = ()) -> bool:
    """Whether a file of the package `bench` decides numbers, by where it lies."""
    name = path.relative_to(BENCH).as_posix()
    return any(name == place or name.startswith(f"{place}/") for place in (*DECIDES, *also))


@functools.cache
def imports(path: Path) -> frozenset[Path]:
    """The files of the package `bench` that a file names in import statements, wherever in it they stand."""
    homes = (_home(module, name) for module, name in _facts(path).imports)
    return frozenset(home for home in homes if home)


@functools.cache
def _home(module: str, name: str) -> Path | None:
    """The file in which `from module import name` ends up: through the re-exports of a package to where it is made."""
    if name and (found := _module(f"{module}.{name}")):
        return found
    file = _module(module)
    if file is None or file.name != "__init__.py":
        return file
    exported = _facts(file).exports.get(name)
    return _home(*exported) if exported else file


def _module(name: str) -> Path | None:
    """The file of a module of `bench`; None for any other module and for a package without code of its own."""
    first, *rest = name.split(".")
    if first != BENCH.name:
        return None
    plain = BENCH.joinpath(*rest[:-1], f"{rest[-1]}.py") if rest else BENCH / "__init__.py"
    package = BENCH.joinpath(*rest, "__init__.py")
    return next((path for path in (plain, package) if path.is_file()), None)


@dataclass(frozen=True)
class _Facts:
    """What is known of a file. imports: (module, name), name empty for `import module`; exports: likewise, by name.

    Exports count what only type checkers import: they say where a name that a package loads lazily comes from.
    """

    content: str
    imports: tuple[tuple[str, str], ...]
    exports: Mapping[str, tuple[str, str]]


def content_digest(path: Path) -> str:
    """Digest of what a Python file does; the file is read once per process."""
    return _facts(path).content


@functools.cache
def _facts(path: Path) -> _Facts:
    """Kept beside the file's bytecode: for a whole leaderboard, computing these took longer than anything else."""
    source = path.read_bytes()
    kept = Path(cache_from_source(str(path))).with_suffix(".facts")
    state = hashlib.blake2b(_computed_by() + source, digest_size=16).hexdigest()
    with suppress(OSError, ValueError, TypeError):
        before, content, imports, exports = json.loads(kept.read_bytes())
        if before == state:
            return _Facts(content, tuple(map(tuple, imports)), {name: tuple(home) for name, home in exports.items()})
    tree = ast.parse(source)
    found = _Facts(digest_of_source(source), tuple(sorted(set(_named(_run(tree))))), _exports(tree))
    if not sys.dont_write_bytecode:
        with suppress(UserError):  # where nothing can be written, it is computed again next time
            write(kept, json.dumps([state, found.content, found.imports, found.exports]).encode())
    return found


@functools.cache
def _computed_by() -> bytes:
    """Another Python, or another version of this file, may find other facts."""
    return sys.version.encode() + Path(__file__).read_bytes()


def _named(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names if node.module.split(".")[0] == BENCH.name)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == BENCH.name)


def _exports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    ahead = [tree]
    while ahead:
        node = ahead.pop()
        yield node
        ahead += node.orelse if _for_checkers(node) else ast.iter_child_nodes(node)


def _for_checkers(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def digest_of_source(source: bytes) -> str:
    """Digest of what Python source does: see the module."""
    return digest(ast.dump(_Behaviour().visit_Module(ast.parse(source))))


class _Behaviour(ast.NodeTransformer):
    """Removes from a syntax tree what cannot change a number."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Without its docstring."""
        return self._undocumented(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        """As `visit_Module`."""
        return self._undocumented(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """As `visit_Module`, and without the type of what it returns."""
        node.returns = None
        return self._undocumented(node)

    def _undocumented(self, node: Documented) -> Documented:
        if ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        self.generic_visit(node)
        return node

    def visit_Import(self, node: ast.Import) -> None:
        """Which module a name comes from shows in the files that are reached."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """As `visit_Import`."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Without what only type checkers read."""
        self.generic_visit(node)
        return None if _for_checkers(node) and not node.orelse else node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Without its annotation."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Without the annotation; that there is one makes a field of a dataclass."""
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        """Without the text of the error."""
        if isinstance(node.exc, ast.Call):
            node.exc = _Wordless().visit(node.exc)
        self.generic_visit(node)
        return node


class _Wordless(ast.NodeTransformer):
    """Removes all text."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        """Numbers stay."""
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        """Whatever is spelled out in it goes too."""
        return ast.Constant("")
