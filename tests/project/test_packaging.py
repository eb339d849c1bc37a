"""The installed libraries are the tested ones, every import is declared, and CI runs the documented commands."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from setuptools import find_packages

import bench

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "defenses", "attacks")


def setup_cfg() -> configparser.ConfigParser:
    """setup.cfg, as setuptools reads it."""
    parser = configparser.ConfigParser(comment_prefixes=("#",), interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(section: str, option: str) -> list[Requirement]:
    """The requirements of one option of setup.cfg."""
    lines = (line.strip() for line in setup_cfg()[section][option].splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def imported(path: Path) -> set[str]:
    """The top-level modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def sources() -> list[Path]:
    """Every Python file of the three packages."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("need", requirements("options", "install_requires"), ids=str)
def test_installed_version_is_the_tested_one(need):
    assert need.specifier.contains(importlib.metadata.version(need.name), prereleases=True)


def test_libraries_that_change_numbers_are_pinned_exactly():
    exact = {need.name for need in requirements("options", "install_requires") if str(need.specifier).startswith("==")}
    moves = {"tensorflow", "keras", "tensorflow-privacy", "dp-accounting", "adversarial-robustness-toolbox"}
    assert moves | {"numpy", "scipy", "scikit-learn", "tensorflow-datasets"} <= exact


def test_gpu_extra_is_the_same_tensorflow():
    (gpu,) = requirements("options.extras_require", "gpu")
    (plain,) = (need for need in requirements("options", "install_requires") if need.name == "tensorflow")
    assert gpu.specifier == plain.specifier
    assert gpu.extras == {"and-cuda"}


def test_checkers_have_one_version_everywhere():
    tox = (ROOT / "tox.ini").read_text()
    for need in requirements("options.extras_require", "dev") + requirements("options", "install_requires"):
        for line in re.findall(rf"^(?:deps =|   ) *({re.escape(need.name)}[=<>].*)$", tox, re.MULTILINE):
            assert Requirement(line).specifier == need.specifier, line


def test_pyproject_holds_only_the_build_system():
    assert set(tomllib.loads((ROOT / "pyproject.toml").read_text())) == {"build-system"}


def test_every_package_folder_is_listed():
    included = setup_cfg()["options.packages.find"]["include"].split()
    listed = set(find_packages(str(ROOT), include=included))
    assert {".".join(path.parent.relative_to(ROOT).parts) for path in sources()} == listed


def test_the_types_of_bench_are_packaged():
    """py.typed is data: without its line in setup.cfg it stays out of the wheel, and no other project sees a type."""
    assert (ROOT / "bench" / "py.typed").read_text() == ""
    assert setup_cfg()["options.package_data"]["bench"].split() == ["py.typed"]


def test_the_verdicts_of_the_linter_are_packaged():
    """Without them whoever installed the package waits for the linter before the first number."""
    package = ROOT / "bench" / "lint"
    named = {path for glob in setup_cfg()["options.package_data"]["bench.lint"].split() for path in package.glob(glob)}
    assert named == {path for path in (package / "shipped").rglob("*") if path.is_file()} != set()


def test_every_import_is_declared():
    """An undeclared library is installed only because another library depends on it."""
    distributions = importlib.metadata.packages_distributions()
    needs = requirements("options", "install_requires") + requirements("options.extras_require", "cluster")
    declared = {canonical(need.name) for need in needs}
    for path in sources():
        for module in imported(path) - set(PACKAGES) - set(sys.stdlib_module_names):
            offered = {canonical(name) for name in distributions.get(module, [module])}
            assert offered & declared, f"{path.relative_to(ROOT)} imports {module}"


def canonical(name: str) -> str:
    """A distribution's name, as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_module_unpickles():
    """No module that unpickles is imported, and NumPy is never called with `allow_pickle=True`."""
    for path in sources():
        assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path


def test_one_version_everywhere():
    assert f"version: {bench.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert importlib.metadata.version("dp-generative-bench") == bench.__version__


def test_ci_runs_the_command_of_the_readme():
    command = "pip install tox && tox"
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == [command, "tox -e readme,slow"]
    for page in ("README.md", "CONTRIBUTING.md"):
        assert command in (ROOT / page).read_text(), page
    assert ".ci/run" in (ROOT / ".github/workflows/test.yml").read_text()
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_the_first_command_of_the_readme_runs_in_a_bare_environment():
    """CI runs it; the test command runs a short form twice, the second time from stored cells."""
    command = "bench run --defense dp_vaegm --attack membership"
    assert f"pip install . && {command}" in (ROOT / "README.md").read_text()
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert tox["testenv:readme"]["commands"] == command
    assert tox["testenv:readme"]["commands_pre"] == "{[testenv:smoke]commands_pre}"
    short, again, *_ = tox["testenv:smoke"]["commands"].strip().split("\n")
    assert short == again
    assert short.startswith("bench run --defense dp_vaegm ")
