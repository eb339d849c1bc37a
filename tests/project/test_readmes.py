"""Links in the documents resolve, their commands are accepted, and their statements agree with the code."""

from __future__ import annotations

import ast
import configparser
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from bench.core.errors import UserError
from tests.project import commands

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent.name for path in (ROOT / "bench").glob("*/__init__.py"))
PAGES = sorted(
    path
    for path in {*ROOT.rglob("README.md"), *ROOT.glob("*.md"), ROOT / "results" / "claims.md"}
    if not {part for part in path.relative_to(ROOT).parts if part.startswith(".") or part in ("build", "venv")}
)
BY_HAND = [page for page in PAGES if page.parent.name != "figures"]
TITLE = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\((?:<([^>]+)>|([^)\s]+))\)")
PICTURE = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in TITLE.findall(prose(page)))
    return {title.strip().replace(" ", "-") for title in plain}


def broken_links(page: Path, text: str) -> Iterator[str]:
    """The links of a page with this text that lead nowhere inside the repository."""
    for bracketed, plain in LINK.findall(text):
        target, _, anchor = (bracketed or plain).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or not file.is_relative_to(ROOT):
            yield target
        elif anchor and anchor not in anchors(file if file.is_file() else file / "README.md"):
            yield f"{target}#{anchor}"


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_relative_link_resolves(page: Path) -> None:
    assert list(broken_links(page, prose(page))) == []


@pytest.mark.parametrize("link", ["nowhere.md", "README.md#no-such-heading", "#no-such-heading", "../outside.md"])
def test_a_broken_link_is_found(link: str) -> None:
    assert list(broken_links(ROOT / "README.md", f"[here]({link})")) == [link]
    assert list(broken_links(ROOT / "README.md", f"[here](<{link}>)")) == [link]


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_page_starts_with_one_title(page: Path) -> None:
    titles = re.findall(r"^# .+", prose(page), re.MULTILINE)
    assert len(titles) == 1
    assert page.read_text().startswith(titles[0])


def check(argv: list[str]) -> None:
    """Parse a command as the program does, and look up the names in it unless they are placeholders."""
    arguments = commands.read(argv)
    if hasattr(arguments, "defense") and not any(re.match(r"my[_.]|.*\b[A-Z]{3,}\b", word) for word in argv):
        with pytest.raises(SystemExit, match=r"^0$") if "--dry-run" in argv else nullcontext():  # it prints and ends
            commands.request(arguments)


@pytest.mark.parametrize("page", BY_HAND, ids=label)
def test_every_command_is_accepted(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for argv in commands.in_blocks(page.read_text()):
        try:
            check(argv)
        except UserError as error:
            pytest.fail(f"bench {' '.join(argv)}: {error}")
    for command, *words in commands.in_prose(prose(page)):
        if page.name == "CHANGELOG.md" or command in ("--help", "--version"):
            continue  # a changelog names removed commands, too
        assert command in commands.names(), command
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= commands.flags(command), f"{command} {words}"


def test_an_unknown_command_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = "\n".join(["text", "", "    pip install . && bench rum", "    bench run --defence none  # a comment"])
    one, other = commands.in_blocks(page + "\n    bench run --defense dp_vaegm,epsilom=1")[:2]
    assert (one, other) == (["rum"], ["run", "--defence", "none"])
    for argv in (one, other, ["run", "--defense", "dp_vaegm,epsilom=1"]):
        with pytest.raises(UserError):
            check(argv)
    assert commands.in_prose("say `bench\nrum --config` then") == [["rum", "--config"]]


def test_the_readme_has_a_line_for_each_command() -> None:
    listed = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    assert sorted(argv[0] for argv in commands.in_blocks(listed)) == sorted(commands.names())


def picture() -> dict[str, set[str]]:
    """The packages that each package may import: those reachable along arrows in the diagram in bench/README.md."""
    [drawn] = PICTURE.findall((ROOT / "bench" / "README.md").read_text())
    arrows: dict[str, set[str]] = {package: set() for package in PACKAGES}
    for line in drawn.splitlines()[1:]:
        chain = line.split(" --> ")
        for one, other in itertools.pairwise(chain):
            arrows[one.strip()].add(other.strip())
    for _ in PACKAGES:
        arrows = {one: others.union(*(arrows[other] for other in others)) for one, others in arrows.items()}
    return arrows


def imported(node: ast.AST) -> set[str]:
    """Every module or name that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {f"{node.module}.{alias.name}" for alias in node.names} if isinstance(node, ast.ImportFrom) else set()


def imports(path: Path) -> set[str]:
    """Every module or name that a file imports, anywhere in it."""
    return set().union(*map(imported, ast.walk(ast.parse(path.read_text()))))


def test_each_package_has_its_line_and_imports_what_the_diagram_allows() -> None:
    page = (ROOT / "bench" / "README.md").read_text()
    assert len(PACKAGES) == 12
    allowed = picture()
    for package in PACKAGES:
        assert len(re.findall(rf"^\| `{package}` \| .+ \|$", page, re.MULTILINE)) == 1, package
        found = set().union(*(imports(path) for path in (ROOT / "bench" / package).rglob("*.py")))
        used = {name.split(".")[1] for name in found if name.startswith("bench.")} & set(PACKAGES)
        assert used - {package} <= allowed[package], package


TENSORFLOW = {"tensorflow", "tensorflow_datasets", "tensorflow_privacy", "keras", "art"}


def test_tensorflow_is_imported_only_where_the_readme_states_and_on_use() -> None:
    page = " ".join((ROOT / "bench" / "README.md").read_text().split())
    sentence = re.search(r"The packages ([`\w, ]+?), the files ([`\w/., ]+?), defenses and attacks may import it", page)
    assert sentence
    packages, files = (set(re.findall(r"`([^`]+)`", words)) for words in sentence.groups())
    assert (len(packages), len(files)) == (6, 3)
    light = []
    for path in (ROOT / "bench").rglob("*.py"):
        where = path.relative_to(ROOT / "bench")
        if where.parts[0] not in packages and str(where) not in files:
            assert not {name.partition(".")[0] for name in imports(path)} & TENSORFLOW, where
        on_top = set().union(*map(imported, ast.parse(path.read_text()).body))
        if not {name.partition(".")[0] for name in on_top} & TENSORFLOW and path.stem != "__main__":
            light.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    assert len(light) > 90
    code = f"import sys; [__import__(name) for name in {light}]; print(sys.modules.keys() & {TENSORFLOW})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("page", sorted((ROOT / "bench").rglob("README.md")), ids=label)
def test_every_file_that_a_package_names_is_there(page: Path) -> None:
    """A name is looked up beside the page, in the root, in `bench` and in its packages; written files are skipped."""
    named = set(re.findall(r"`([\w./]+\.(?:py|cfg|ini)|[a-z_]+/(?:[a-z_]+/)?)`", prose(page)))
    places = (page.parent, ROOT, ROOT / "bench", *(ROOT / "bench" / package for package in PACKAGES))
    named -= {"mnist/", "fashion_mnist/"}  # folders of the reader's files
    named = {name for name in named if not name.startswith("results/")}
    assert named
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_the_examples_of_the_readme_are_those_of_contributing() -> None:
    blocks = {
        name: re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        for name in ("README.md", "CONTRIBUTING.md")
    }
    assert blocks["README.md"] == blocks["CONTRIBUTING.md"][:2]
    assert len(blocks["README.md"]) == 2


def test_the_hooks_run_the_commands_of_tox() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    run = {hook["entry"] for repository in hooks for hook in repository["hooks"]}
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    checks = "\n".join(tox[f"testenv:{name}"]["commands"] for name in ("lint", "types"))
    assert run == set(filter(None, checks.splitlines()))


def test_no_page_contains_a_renamed_command_or_term() -> None:
    old = r"bench (check|control|exposed)\b|run --release|accept-published|blind answer|[Bb]y luck|\bdoubts\b"
    for page in PAGES:
        if page.name != "CHANGELOG.md" and page.parent.name != "figures":
            assert re.findall(old, page.read_text()) == [], label(page)


def test_ignored_files_are_not_linked() -> None:
    """A clone, in which a page is read, lacks files that were never committed."""
    linked = {
        (page.parent / (bracketed or plain).partition("#")[0]).resolve()
        for page in BY_HAND
        for bracketed, plain in LINK.findall(prose(page))
        if not re.match(r"[a-z]+:", bracketed or plain)
    }
    inside = sorted(str(path.relative_to(ROOT)) for path in linked if path != ROOT)
    ignored = subprocess.run(["git", "check-ignore", *inside], cwd=ROOT, text=True, capture_output=True)
    if ignored.returncode == 128:
        pytest.skip("not a checkout of git")
    assert ignored.stdout == ""
