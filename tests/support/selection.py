"""What a test needs, found in its code: the markers that `./run_tests.sh --fast` selects by."""

import ast
import inspect
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SERVER_FIXTURES = {"tracking", "registry", "served", "stack", "s3_server"}
_SERVER_STARTERS = {"started", "serve_model", "serve_tracking"}
TENSORFLOW = {"tensorflow", "keras", "tf_keras"}


def markers(item: pytest.Function) -> set[str]:
    """`server`, `process` and `tensorflow`, as far as the test, its fixtures and the helpers that they call show it.

    What a function of the project imports only when it is called is not seen: such a test bears its marker itself.
    """
    found = set()
    fixtures = [fixture.func for fixtures in item._fixtureinfo.name2fixturedefs.values() for fixture in fixtures]
    used = set(_reached([item.function, *fixtures]))
    folder = item.path.parent.name
    if folder in {"servers", "stack"} or SERVER_FIXTURES & set(item.fixturenames) or any(_starts_server(one) for one in used):
        found.add("server")
    if subprocess in used:
        found.add("process")
    if loads_tensorflow(item.module.__name__):
        found.add("tensorflow")
    return found


def _starts_server(used: Any) -> bool:
    return isinstance(used, FunctionType) and used.__name__ in _SERVER_STARTERS


def _reached(functions: Iterable[Callable[..., Any]]) -> Iterator[Any]:
    """The functions, the helpers of the tests that they name, and the modules that any of them names."""
    seen: set[int] = set()
    waiting: list[Any] = list(functions)
    while waiting:
        used = waiting.pop()
        used = used.func if hasattr(used, "func") else used  # functools.partial, a bound fixture
        if id(used) in seen or not getattr(used, "__hash__", None):
            continue
        seen.add(id(used))
        if isinstance(used, ModuleType):
            yield used
        elif inspect.isclass(used) and used.__module__.startswith("tests."):
            waiting += [member for member in vars(used).values() if isinstance(member, FunctionType)]
        elif isinstance(function := inspect.unwrap(used) if callable(used) else used, FunctionType):
            yield function
            if function.__module__.startswith("tests."):
                waiting += [function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__]


def _names(code: CodeType) -> set[str]:
    """Names that a function's code uses, the functions in it included."""
    return set(code.co_names).union(*(_names(part) for part in code.co_consts if isinstance(part, CodeType)))


@cache
def loads_tensorflow(module: str) -> bool:
    """Whether importing a module of this project imports TensorFlow."""
    return bool(TENSORFLOW & _imported(module))


@cache
def _imported(module: str) -> frozenset[str]:
    """First names of the packages that importing a module of this project brings in, by its source."""
    waiting, seen, outside = [module], set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path is None:
            outside.add(name.partition(".")[0])
        elif name not in seen:
            seen.add(name)
            waiting += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
            waiting += _imports(path)
    return frozenset(outside)


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Modules that a file imports when it is imported, not those that a function of it does."""
    names: list[str] = []
    waiting: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [node.module, *(part for part in parts if _source(part))]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.expr):
            waiting += list(ast.iter_child_nodes(node))
    return tuple(names)


@cache
def _source(module: str) -> Path | None:
    """Of a module of this project; None for any other name."""
    base = PROJECT.joinpath(*module.split("."))
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in candidates if path.is_file()), None)
