"""What is installed is what was tested, and what CONTRIBUTING promises is true."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import itertools
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from setuptools import find_packages

import bench
from bench.core.component import missing
from bench.core.dataset import DataLocation, Examples, Split, shared, split
from bench.data.card import card
from bench.games import MEMBERSHIP
from bench.runner.registry import discover
from tests.project import commands

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "defenses", "attacks")
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


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


def test_what_moves_numbers_is_pinned_exactly():
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
    """An undeclared library is there by chance, through another one that needs it today."""
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


def test_nothing_is_ever_unpickled():
    """Neither the modules that do, nor NumPy and joblib asked to."""
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
    """In CI whole; in the test command a short run of the same program, which then answers from what is stored."""
    command = "bench run --defense dp_vaegm --attack membership"
    assert f"pip install . && {command}" in (ROOT / "README.md").read_text()
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert tox["testenv:readme"]["commands"] == command
    assert tox["testenv:readme"]["commands_pre"] == "{[testenv:smoke]commands_pre}"
    short, again, *_ = tox["testenv:smoke"]["commands"].strip().split("\n")
    assert short == again
    assert short.startswith("bench run --defense dp_vaegm ")


def test_the_cell_that_the_readme_asks_about_is_stored():
    [cell] = re.findall(r"bench why (\S+/\d+)", (ROOT / "README.md").read_text())
    assert (ROOT / "results" / f"{cell}.json").is_file()


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """The examples of CONTRIBUTING, written to files as a reader would."""
    folder = tmp_path_factory.mktemp("contributing")
    for number, snippet in enumerate(SNIPPETS):
        (folder / f"example_{number}.py").write_text(snippet)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def digits() -> Split:
    """Real digits: 600 private, 600 holdout."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    records = Examples(raw.images[..., None] / 16, raw.target, 10)
    return split("digits", records, np.random.default_rng(0), private=600, holdout=600, public=200)


def test_examples_take_fifteen_lines():
    assert len(SNIPPETS) == 3
    for snippet in SNIPPETS:
        code = re.sub(r'""".*?"""', "", snippet, flags=re.DOTALL)  # a data set's docstring is its card
        assert len(code.strip().splitlines()) <= 15
        assert max(map(len, snippet.splitlines())) <= 120


def test_example_defense_learns_and_says_what_it_spent(plugins, digits):
    from bench.dp.accounting import epsilon

    component = discover(plugins=plugins).defenses["noisy_means"]
    release = component.function(digits.private, digits.public, seed=1)
    assert release.published() == component.publishes
    p = release.predict(digits.holdout.x)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    assert (p.argmax(1) == digits.holdout.y).mean() > 0.6
    assert 0 < epsilon(release.dp_event, 1e-5) < 3
    again = component.function(digits.private, digits.public, seed=1)
    np.testing.assert_array_equal(p, again.predict(digits.holdout.x))


def test_example_defense_moves_by_at_most_one_record(digits):
    """Without noise: one record more moves the sums, from which everything else follows, by at most 1."""
    snippet = next(s for s in SNIPPETS if "noisy_means" in s)
    assert snippet.count("    means = ") == 1
    space: dict[str, object] = {}
    exec(snippet.replace("    means = ", "    return sums\n    means = "), space)
    with_it, without = (
        space["noisy_means"](part, digits.public, seed=1, noise_multiplier=0.0)  # type: ignore[operator]
        for part in (digits.private, digits.private[1:])
    )
    assert 0 < np.linalg.norm(with_it - without) <= 1


def test_example_attack_sees_what_leaks_and_nothing_else(plugins, digits):
    """A release that is certain of members alone, and one that is of nobody."""
    from dp_accounting import NonPrivateDpEvent
    from sklearn.metrics import roc_auc_score

    from bench.core.release import Release

    component = discover(plugins=plugins).attacks["sure_and_right"]
    assert component.game is MEMBERSHIP
    challenge = MEMBERSHIP.challenge(digits, np.random.default_rng(0))
    targets, ground_truth = challenge.targets, challenge.ground_truth
    right = np.eye(10)[targets.records.y]
    leaky = np.where(ground_truth[:, None], right, 0.1)
    for answer, low, high in ((leaky, 0.99, 1.0), (np.full_like(right, 0.1), 0.49, 0.51)):
        release = Release(NonPrivateDpEvent(), predict=lambda x, answer=answer: answer)
        score = component.function(release.only(component.needs), targets, digits.public, seed=0)
        assert np.isfinite(score).all()
        assert low <= roc_auc_score(ground_truth, score) <= high


def test_example_data_set_has_its_card_and_its_parts(plugins):
    component = discover(plugins=plugins).data["wine"]
    assert all(card(component).values())
    data = component.function(DataLocation(), np.random.default_rng(0), **component.options)
    assert [len(part) for part in (data.private, data.holdout, data.public)] == [80, 50, 48]
    assert (data.private.shape, data.private.classes, shared(data)) == ((13,), 3, 0)


def tables(page: str) -> list[list[dict[str, str]]]:
    """Every table of a Markdown page: its rows by the names of the columns, without marks of bold."""
    found: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if line.startswith("| "):
            found[-1].append([word.strip(" *") for word in line.split("|")[1:-1]])
        elif not line.startswith("|---") and found[-1]:
            found.append([])
    return [[dict(zip(head, row, strict=True)) for row in rows] for head, *rows in filter(None, found)]


def test_the_leaderboard_in_the_readme_is_the_committed_one() -> None:
    """Cell by cell, of one table; of an audited epsilon the README leaves out how it was found."""
    committed = tables((ROOT / "results" / "leaderboard.md").read_text())
    [shown] = [table for table in tables((ROOT / "README.md").read_text()) if "rank" in table[0]]
    names = yaml.safe_load((ROOT / "results" / "boards" / "small.yaml").read_text())["defense"]
    assert sorted(row["defense"] for row in shown) == sorted(names)
    assert len(shown[0]) >= 7
    [whole] = [table for table in committed if all(_stands(row, table) for row in shown)]
    assert [_stands(row, whole)[0]["defense"] for row in shown] == [row["defense"] for row in shown]
    assert not _stands(shown[0] | {"utility": "0.999 [0.871, 0.953]"}, whole)


def _stands(shown: dict[str, str], table: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of a table that say what a row says."""
    return [
        row
        for row in table
        if shown.keys() <= row.keys()
        and all((row[name].split()[0] if name == "audited epsilon" else row[name]) == shown[name] for name in shown)
    ]


def test_claims_say_what_the_leaderboard_says() -> None:
    claims = (ROOT / "results" / "claims.md").read_text().partition("\n## Published")[0]
    pages = [ROOT / "results" / "leaderboard.md", *(ROOT / "results").glob("*/details.md")]
    leaderboard = "".join(page.read_text() for page in pages)
    figures = re.findall(r"\d\.\d{3} \[-?\d\.\d+, \d\.\d+\]", claims)
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in leaderboard] == []


def test_claims_say_what_audits_proved() -> None:
    leaderboard = (ROOT / "results" / "leaderboard.md").read_text().split("\n## ")[1:]
    rows = [
        (part.partition(":")[0].partition(",")[0], *(word.strip(" *") for word in line.split("|")[2:6]))
        for part in leaderboard for line in part.splitlines() if line.startswith("| ")
    ]  # fmt: skip
    table = (ROOT / "results" / "claims.md").read_text().partition("| claimed ε 1, ε 8 |")[2]
    names, _, *lines = table.partition("\n\n")[0].splitlines()
    data = [word.strip() for word in names.split("|")[:-1]]
    assert len(lines) * len(data) == 24
    for line in lines:
        defense, *cells = (word.strip(" `") for word in line.split("|")[1:-1])
        for name, cell in zip(data, cells, strict=True):
            for claimed, proved in zip((1, 8), cell.split(", "), strict=True):
                assert any(
                    (where, label.partition(",")[0], audited.split()[0]) == (name, defense, proved)
                    and abs(float(epsilon) - claimed) < 0.05
                    for where, label, _, epsilon, audited in rows
                    if audited[:1].isdigit()
                ), f"{name}: {defense}, {claimed}"


@pytest.mark.parametrize("path", sorted((ROOT / "results").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_configuration_can_be_run(path: Path) -> None:
    """Whatever it names is there, and something of it can be played."""
    for grid in commands.request(commands.read(["run", "--config", str(path)])).grids:
        chosen = itertools.product(grid.attacks, grid.defenses, grid.data)
        assert not all(missing(*(choice.component for choice in choices)) for choices in chosen)
