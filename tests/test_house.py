"""The rules of the house: who may import whom, who prints, and what no file may name."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# CONTRIBUTING.md: imports go down only
FLOORS = {"cli": 5, "reports": 4, "attribution": 3, "training": 3, "generator": 2, "cuda_ops": 1}
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".j2", ".html", ".css", ".js", ".json", ".csv", ".txt", ".cfg", ""}
# in two halves, so that this file does not name them
FORBIDDEN = [
    "/work" + "/",
    "/root" + "/",
    "shared" + "/",
    "HOUSE" + ".md",
    "before" + "-stop",
    "clau" + "de",
    "anthro" + "pic",
]


def modules() -> Iterator[Path]:
    yield ROOT / "cli.py"
    for package in FLOORS:
        yield from sorted((ROOT / package).rglob("*.py"))


MODULES = list(modules())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_packages(path: Path) -> set[str]:
    """The top-level names that a module imports, wherever in the module."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_there_is_a_house():
    assert {name_of(path).split("/")[0].removesuffix(".py") for path in MODULES} == FLOORS.keys()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    up = {name for name in imported_packages(path) - {own} if FLOORS.get(name, 0) >= FLOORS[own]}
    assert not up, f"{name_of(path)} on floor {FLOORS[own]} imports {', '.join(sorted(up))}"
    assert "tests" not in imported_packages(path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_command_line_prints(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    printing = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert path.name == "cli.py" or not printing, f"{name_of(path)} prints in line {printing[0]}"


def text_files() -> Iterator[Path]:
    """The repository's text files: no environment, cache, build or output of a run."""
    for directory, subdirectories, files in os.walk(ROOT):
        subdirectories[:] = [
            name
            for name in subdirectories
            if (not name.startswith(".") or name == ".ci")
            and name not in {"__pycache__", "build", "dist", "runs"}
            and not name.endswith(".egg-info")
            and not name.startswith("latentprint-")
        ]
        yield from (Path(directory, name) for name in files if Path(name).suffix in TEXT)


def test_no_file_names_the_place_where_it_was_written():
    files = list(text_files())
    assert {"pyproject.toml", "cli.py", "run"} <= {path.name for path in files}
    for path in files:
        text = path.read_text(encoding="utf-8").lower()
        found = [word for word in FORBIDDEN if word.lower() in text]
        assert not found, f"{name_of(path)} names {found[0]}"
