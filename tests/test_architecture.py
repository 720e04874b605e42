"""The habits of CONTRIBUTING.md that a machine can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "ppl").rglob("*.py"))

MAX_FILE_LINES = 250
MAX_FUNCTION_LINES = 40
HEAVY = ("av", "lightning", "matplotlib", "open_clip", "torch", "torchvision", "transformers")

IGNORED_FOLDERS = {
    ".git",
    ".hypothesis",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "lightning_logs",
    "runs",
}
# Written in pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:" + "|".join(("work", "root", "home")) + r")(?:/|\b)")
REGISTRY_HOST = re.compile("|".join(("pypi[.]org", "python" + "hosted", "download[.]py" + "torch", "registry[.]npm")))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def committed_files() -> list[Path]:
    """Everything git tracks or would offer to track; outside a git checkout, every file that is not a cache."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    files = [ROOT / name for name in listed.split("\0") if name]
    if not files:
        files = [path for path in ROOT.rglob("*") if not IGNORED_FOLDERS.intersection(path.relative_to(ROOT).parts)]
    return sorted(path for path in files if path.is_file())


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in committed_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # not a text file
            continue
        found += [f"{relative(path)}:{n}: {line.strip()}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the last statement, the docstring left out."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("module", ["ppl", "ppl.cli"])
def test_import_is_light(module):
    probe = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [], f"import {module} pulls in {result.stdout}"


def test_names_say_what_a_file_holds():
    vague = {"common", "helper", "helpers", "misc", "util", "utils"}
    assert [relative(path) for path in committed_files() if {path.stem, path.parent.name} & vague] == []


def test_files_are_short():
    sizes = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_LINES} == {}


def test_functions_are_short():
    sizes = {
        f"{relative(path)}:{node.lineno} {node.name}": function_lines(node)
        for path in PACKAGE
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert sizes, "no function found: is the package where it was?"
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}


def test_only_the_command_line_prints():
    prints = [
        f"{relative(path)}:{node.lineno}"
        for path in PACKAGE
        if not relative(path).startswith(("ppl/cli.py", "ppl/serving/"))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def test_modules_say_what_they_are_for():
    modules = [path for path in PACKAGE if path.name != "__init__.py"]
    assert [relative(path) for path in modules if not ast.get_docstring(parsed(path))] == []


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY_HOST], ids=["machine paths", "registry hosts"])
def test_nothing_names_the_machine_it_was_written_on(pattern):
    assert lines_matching(pattern) == []


@pytest.mark.parametrize("area", ["functional", "datamodules"])
def test_tests_mirror_the_package(area):
    tests = sorted((ROOT / "tests" / area).rglob("test_*.py"))
    strays = []
    for test in tests:
        tested = ROOT / "ppl" / test.relative_to(ROOT / "tests").parent / test.stem.removeprefix("test_")
        if not (tested.with_suffix(".py").is_file() or tested.is_dir()):
            strays.append(f"{relative(test)}: no {relative(tested)}.py")
    assert strays == []
