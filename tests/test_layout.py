"""The shape of the package: who may import whom, how little an import costs, what is in the wheel and in the lock."""

from __future__ import annotations

import ast
import re
import subprocess
import symtable
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import modelrouter

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "modelrouter"

FLOORS = {
    "store.database": 0,
    "process.forks": 0,
    "process.event_loops": 0,
    "catalog.wording": 0,
    "catalog.yaml_lines": 0,
    "errors": 0,
    "types": 0,
    "backend.answers": 1,
    "backend.failures": 1,
    "backend.connections": 1,
    "backend.insides.quiet": 1,
    "catalog.schema": 1,
    "planning.effects": 1,
    "planning.health": 1,
    "catalog.prices": 1,
    "planning.arguments": 1,
    "environment": 1,
    "store.disk": 1,
    "metering.track": 1,
    "catalog.mistakes": 2,
    "embedded.child": 2,
    "catalog.names": 2,
    "cli.screen": 2,
    "backend.stream": 2,
    "cache.cache": 2,
    "metering.savings": 2,
    "embedded.server": 2,
    "cache.single_flight": 2,
    "metering.metrics": 2,
    "backend.litellm": 3,
    "catalog.catalog": 3,
    "callback": 4,
    "catalog.live": 4,
    "router.performer": 4,
    "planning.plan": 4,
    "metering.server": 4,
    "router.streams": 4,
    "cli.check": 5,
    "router.router": 5,
    "cli.asking": 6,
    "cli.cache": 6,
    "dspy.engine": 6,
    "cli.listings": 6,
    "router.default": 6,
    "testing": 6,
    "dspy.lm": 7,
    "dspy": 8,
    "dspy.pipeline": 9,
    "pipeline": 10,
    "pytest_plugin": 9,
    "cli.demo": 10,
    "cli.app": 11,
    "__main__": 12,
    "__init__": 13,
}
"""``__init__`` is above all: inside the package, a name is taken from the file that defines it."""

GUARDED = {
    "litellm": {"backend.connections", "backend.litellm", "backend.insides.quiet", "backend.stream", "callback"},
    "dspy": {"dspy.__init__", "dspy.engine", "dspy.lm", "dspy.pipeline", "cli.demo"},
}
"""Libraries that change every week or load for seconds, and the only files that may import each."""

FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
each_file = pytest.mark.parametrize("name", FILES)


def imports(name: str) -> Iterator[tuple[int, str]]:
    """The line and the dotted name of all that a file imports at run time, inside functions too."""

    def walk(node: ast.AST) -> Iterator[tuple[int, str]]:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for other in node.orelse:
                    yield from walk(other)
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                here = ["modelrouter", *name.split(".")[:-1]]
                source = ".".join(
                    filter(None, [*(here[: len(here) + 1 - node.level] if node.level else ()), node.module])
                )
                yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
            case _:
                for child in ast.iter_child_nodes(node):
                    yield from walk(child)

    return walk(ast.parse(FILES[name].read_text()))


@each_file
def test_a_file_imports_only_from_the_floors_below_its_own(name: str) -> None:
    if name.endswith(".__init__"):
        return  # a package's face: empty, or the names that users import
    assert name in FLOORS, f"modelrouter/{name}.py has no floor: give it one in FLOORS, above all that it imports"
    floor = FLOORS[name]
    wrong = []
    for line, imported in imports(name):
        package, _, rest = imported.partition(".")
        parts = rest.split(".")
        known = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        below = next((FLOORS[each] for each in known if each in FLOORS), FLOORS["__init__"])
        if package == "modelrouter" and below >= floor:
            wrong.append(f"modelrouter/{name}.py:{line} (floor {floor}) imports {imported} (floor {below})")
    assert not wrong, "\n".join(wrong)


@each_file
def test_only_the_files_at_the_door_import_litellm_and_dspy(name: str) -> None:
    wrong = [
        f"modelrouter/{name}.py:{line} imports {imported}"
        for line, imported in imports(name)
        if name not in GUARDED.get(imported.partition(".")[0], {name})
    ]
    assert not wrong, "\n".join(wrong)


@each_file
def test_all_is_sorted_and_names_what_is_there(name: str) -> None:
    source = FILES[name].read_text()
    literals = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    for names in literals:
        # Constants, classes, the rest: as ruff sorts them.
        assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
        defined = {s.get_name() for s in symtable.symtable(source, name, "exec").get_symbols() if s.is_local()}
        assert set(names) <= defined, f"not defined: {sorted(set(names) - defined)}"


def test_every_public_name_is_loaded_when_it_is_used() -> None:
    assert set(modelrouter.__all__) <= set(dir(modelrouter))
    for name in modelrouter.__all__:
        assert getattr(modelrouter, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'complet'"):
        modelrouter.complet  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {
        "diskcache",
        "dspy",
        "httpx",
        "litellm",
        "openai",
        "prometheus_client",
        "pydantic",
        "typer",
        "yaml",
    }
    script = "import sys, modelrouter; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "modelrouter" in loaded
    assert not heavy & loaded


def test_the_wheel_has_the_catalog_and_the_types_and_nothing_else_of_ours(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == {
            *(path.relative_to(ROOT).as_posix() for path in FILES.values()),
            "modelrouter/models.schema.json",
            "modelrouter/models.yaml",
            "modelrouter/py.typed",
        }
        assert archive.read("modelrouter/models.yaml") == (ROOT / "config/models.yaml").read_bytes()


def test_the_lock_has_what_pyproject_asks_for() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    wanted = [
        *pyproject["build-system"]["requires"],
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
        *(line for lines in pyproject["dependency-groups"].values() for line in lines),
    ]
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    stale = [line for line in wanted if (need := Requirement(line)) and locked.get(need.name, "") not in need.specifier]
    assert not stale, f"requirements.lock is behind pyproject.toml, run 'make lock': {stale}"
