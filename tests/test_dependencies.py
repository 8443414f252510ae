"""Who may import whom, read from the sources: see LEVELS. And who may print or end the program."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "nnie_prep"

# A module or folder imports only from levels before its own, and from its own folder. Within the
# level of the foundation the modules may import each other, if no circle comes of it.
LEVELS = (
    {"blob", "errors", "names", "nnie_caffe_pb2"},
    {"net", "outputs", "stored"},
    {
        *("blob_map", "caffe_io", "composites", "description", "kernels", "memory", "normalization"),
        *("own_code", "params", "shapes", "training_layers", "transforms", "weights"),
    },
    {"passes", "darknet", "detection", "diff", "edit", "engines", "show"},
    {"verify"},
    {"caffe_weights", "proof", "quantization"},
    {"nnie"},
    {"cli"},
    {"__main__"},
)
FOUNDATION = 2
# The child process under any Python that has Caffe is a program of its own.
PROGRAMS = {"engines/caffe_worker.py"}


class Import(NamedTuple):
    module: str  # "numpy.typing", "nnie_prep.passes.folding"
    line: int
    at_top: bool  # runs when the importing module is imported


def sources() -> list[Path]:
    found = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.name.endswith("_pb2.py")]
    return [path for path in found if path.relative_to(PACKAGE).as_posix() not in PROGRAMS]


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file but those for type checkers alone."""
    tree = ast.parse(path.read_text())
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for_types = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, id(node) not in inner)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name of the module"
            for name in node.names:
                dotted = f"{node.module}.{name.name}"
                module = dotted if file_of(dotted) else str(node.module)
                yield Import(module, node.lineno, id(node) not in inner)


def file_of(module: str) -> Path | None:
    """The file of a module of this package."""
    head, *rest = module.split(".")
    if head != PACKAGE.name:
        return None
    place = PACKAGE.joinpath(*rest)
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.exists():
            return path
    return None


def unit_of(path: Path) -> str:
    """The module or folder of the package that a file belongs to; "" for the package's own __init__."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def level_of(unit: str) -> int:
    for level, units in enumerate(LEVELS):
        if unit in units:
            return level
    raise AssertionError(f"{unit} stands in no level: give it its place in LEVELS")


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path: Path) -> None:
    unit = unit_of(path)
    for one in imports(path):
        target = file_of(one.module)
        if target is None or unit_of(target) in ("", unit):
            continue
        own, other = level_of(unit) if unit else -1, level_of(unit_of(target))
        assert other < own or other == own == FOUNDATION, f"{path}:{one.line} imports {one.module}"


def test_no_circle_of_modules() -> None:
    graph: dict[str, set[str]] = {}
    for path in sources():
        targets = {file_of(one.module) for one in imports(path)}
        graph.setdefault(unit_of(path), set()).update(unit_of(target) for target in targets if target)
    done: set[str] = set()

    def visit(unit: str, above: tuple[str, ...]) -> None:
        assert unit not in above, " imports ".join((*above, unit))
        if unit not in done:
            for target in graph.get(unit, set()) - {unit, ""}:
                visit(target, (*above, unit))
            done.add(unit)

    for unit in graph:
        visit(unit, ())


@pytest.mark.parametrize("start", ["__init__.py", "__main__.py", "cli/__init__.py", "errors.py"])
def test_help_needs_neither_numpy_nor_protobuf(start: str) -> None:
    """Nothing heavy is imported at once; commands import what they need when they run."""
    todo, seen = [PACKAGE / start], set()
    while todo:
        path = todo.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for one in imports(path):
            heavy = one.module.split(".")[0] in ("numpy", "google")
            assert not (one.at_top and heavy), f"{path}:{one.line} imports {one.module} at once"
            target = file_of(one.module)
            if target and one.at_top:
                todo += [
                    target,
                    *(parent / "__init__.py" for parent in target.parents if PACKAGE in parent.parents),
                ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if unit_of(path) in ("cli", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        said = ""
        if isinstance(node, ast.Call):
            said = ast.unparse(node.func)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            said = ast.unparse(node.exc).partition("(")[0]
        ends = said in ("print", "exit", "quit", "sys.exit", "os._exit", "os.abort", "SystemExit")
        assert not ends and not said.startswith(("sys.stdout", "sys.stderr")), (
            f"{path}:{node.lineno} says {said}"
        )


def test_darknets_judge_knows_neither_the_emitters_nor_the_engine() -> None:
    """It proves conversions, so that it shares nothing with them but the readers of Darknet's files."""
    readers = {PACKAGE / "darknet" / "cfg.py", PACKAGE / "darknet" / "weights.py"}
    judge = PACKAGE / "darknet" / "reference"
    files = list(judge.rglob("*.py"))
    assert files
    for path in files:
        for one in imports(path):
            target = file_of(one.module)
            own = target is None or judge in target.parents or target in readers
            assert own or unit_of(target) in ("blob", "errors", "net"), (
                f"{path}:{one.line} imports {one.module}"
            )
