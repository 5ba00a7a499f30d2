"""The shape of the package: who may import whom, how little an import costs, what is in the wheel and in the lock."""

from __future__ import annotations

import ast
import graphlib
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

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "modelrouter"

FLOORS = (
    "completion hints parameters process redaction",
    "errors",
    "environment",
    "embedded store",
    "catalog",
    "export planning",
    "backend cache metering",
    "callback",
    "router",
    "comparing dspy testing",
    "pipeline pytest_plugin",
    "cli",
    "__init__ __main__",
)
"""A room (a package, or a file beside the packages) imports only from the floors before its own. ``__init__`` is above
all: inside the package, a name is taken from the file that defines it."""

GUARDED = {
    "diskcache": "store",
    "dspy": "dspy cli.demo",
    "litellm": "backend callback",
    "numpy": "comparing.statistics",
    "opentelemetry": "metering",
    "prometheus_client": "metering",
    "redis": "store",
}
"""Libraries that change every week, load for seconds or may be replaced, and who may import each."""

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
                here = ["modelrouter", *name.split(".")[:-1]][: 1 - node.level or None] if node.level else []
                source = ".".join([*here, *filter(None, [node.module])])
                yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
            case _:
                for child in ast.iter_child_nodes(node):
                    yield from walk(child)

    return walk(ast.parse(FILES[name].read_text()))


def room(name: str) -> str:
    return name.partition(".")[0]


@each_file
def test_a_room_imports_only_from_the_floors_below_its_own(name: str) -> None:
    floor = {each: number for number, rooms in enumerate(FLOORS) for each in rooms.split()}
    assert room(name) in floor, (
        f"modelrouter/{room(name)} has no floor: give it one in FLOORS, above all that it imports"
    )
    wrong = []
    for line, imported in imports(name):
        package, _, rest = imported.partition(".")
        home = room(rest) if room(rest) in floor else "__init__"  # a name taken from the package itself
        if package == "modelrouter" and home != room(name) and floor[home] >= floor[room(name)]:
            wrong.append(f"{FILES[name]}:{line} imports {imported}: {home} is no floor below {room(name)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", sorted({room(name) for name in FILES if "." in name}))
def test_there_is_no_circle_within_a_room(package: str) -> None:
    graph: dict[str, set[str]] = {}
    for name in FILES:
        if room(name) == package and not name.endswith(".__init__"):
            mine = {imported.removeprefix("modelrouter.") for _, imported in imports(name)}
            graph[name] = {other for other in FILES if any(f"{one}.".startswith(f"{other}.") for one in mine)} - {name}
    graphlib.TopologicalSorter(graph).prepare()  # which raises CycleError, with the circle


@each_file
def test_libraries_stay_in_their_rooms(name: str) -> None:
    wrong = [
        f"{FILES[name]}:{line} imports {imported}"
        for line, imported in imports(name)
        if (homes := GUARDED.get(room(imported))) is not None and not {name, room(name)} & set(homes.split())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_house_can_be_overseen() -> None:
    assert sum("." not in name for name in FILES) <= 12, "there are too many files at the top"
    long = [name for name, path in FILES.items() if len(path.read_text().splitlines()) > 350]
    assert not long, f"each of these has more than one job: {long}"


@each_file
def test_all_is_sorted_and_names_what_is_there(name: str) -> None:
    source = FILES[name].read_text()
    literals = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "__all__"
        and isinstance(node.value, ast.List)
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


@pytest.mark.heavy
def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {
        "diskcache",
        "dspy",
        "httpx",
        "litellm",
        "numpy",
        "openai",
        "opentelemetry",
        "prometheus_client",
        "pydantic",
        "redis",
        "typer",
        "yaml",
    }
    script = "import sys, modelrouter; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "modelrouter" in loaded
    assert not heavy & loaded


@pytest.mark.heavy
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


def _locked(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / path).read_text(), re.MULTILINE))


def test_the_lock_has_what_pyproject_asks_for() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    wanted = [
        *pyproject["build-system"]["requires"],
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
        *(line for lines in pyproject["dependency-groups"].values() for line in lines),
    ]
    locked = _locked("requirements.lock")
    stale = [line for line in wanted if (need := Requirement(line)) and locked.get(need.name, "") not in need.specifier]
    assert not stale, f"requirements.lock is behind pyproject.toml, run 'make lock': {stale}"


def test_the_proxy_of_the_tests_is_of_the_locked_litellm() -> None:
    assert _locked("tests/servers/proxy.lock")["litellm"] == _locked("requirements.lock")["litellm"]
