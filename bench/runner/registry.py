"""Finds and loads components: functions that declare themselves (`bench.core.component`)."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bench.core.component import Component, Kind
from bench.core.errors import UserError
from bench.core.game import Game
from bench.data import user_file
from bench.games import GAMES
from bench.runner import old_imports


@dataclass(frozen=True)
class Registry:
    """Components by name, one sentence for each file that could not be used, and the plugins that were loaded."""

    defenses: Mapping[str, Component]
    attacks: Mapping[str, Component]
    data: Mapping[str, Component]
    broken: list[str]
    plugins: tuple[Path, ...] = ()

    @property
    def games(self) -> dict[str, Game]:
        """The games of bench and those that attacks of other packages bring, by name."""
        return GAMES | {attack.game.name: attack.game for attack in self.attacks.values() if attack.game}

    @property
    def components(self) -> list[Component]:
        """Everything that was found."""
        return [*self.data.values(), *self.defenses.values(), *self.attacks.values()]

    def of(self, kind: Kind) -> Mapping[str, Component]:
        """The components of one kind."""
        return {"defense": self.defenses, "attack": self.attacks, "data": self.data}[kind]

    def find(self, kind: Kind, name: str) -> Component | None:
        """The component of this name, None where there is none; a file of records needs no registering."""
        found = self.of(kind).get(name)
        return user_file.component(name) if found is None and kind == "data" and user_file.is_file(name) else found


def discover(plugins: Sequence[Path] = ()) -> Registry:
    """Load every component: the packages, data sets, entry points, then plugins, which replace namesakes.

    Raises UserError for a plugin that is missing, fails to load or declares nothing; other failures go to `broken`.
    """
    registry = Registry({}, {}, {}, [], tuple(plugins))
    for shown, load in (*_modules("defenses"), *_modules("attacks"), *_entry_points(), *_modules("bench.data.sets")):
        _add(registry, shown, load)
    for path in plugins:
        add(registry, path)
    for name in sorted(registry.games.keys() & registry.attacks.keys()):
        source = registry.attacks[name].source
        registry.broken.append(f"{source} names an attack like the game {name!r}: rename the attack.")
    return registry


Load = Callable[[], object]


def _modules(package: str) -> Iterator[tuple[str, Load]]:
    folder = package.replace(".", "/")
    try:
        path = importlib.import_module(package).__path__
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - `_add` loads it again and reports what is wrong
        yield f"{folder}/__init__.py", lambda: importlib.import_module(package)
        return
    for module in sorted(pkgutil.iter_modules(path), key=lambda module: module.name):
        if not module.name.startswith("_"):
            shown = f"{folder}/{module.name}" + ("" if module.ispkg else ".py")
            yield shown, lambda name=module.name: importlib.import_module(f"{package}.{name}")  # type: ignore[misc]


def _entry_points() -> Iterator[tuple[str, Load]]:
    for group in ("bench.defenses", "bench.attacks"):
        for point in importlib.metadata.entry_points(group=group):
            yield f"the entry point {point.name!r} ({point.value})", point.load


def _add(registry: Registry, shown: str, load: Load) -> None:
    try:
        found = _components(load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a file of somebody else may raise anything
        registry.broken.append(f"{shown} could not be loaded: {_sentence(error)}")
        return
    if not found:
        registry.broken.append(f"{shown} declares no component: decorate its function with @defense or @attack.")
    for component in found:
        first = registry.of(component.kind).get(component.name, component)
        if first is not component:
            both = f"{first.source} and {component.source}"
            registry.broken.append(
                f"the {component.kind} {component.name!r} is in {both}: rename one; the first is used."
            )
        _put(registry, first)


def add(registry: Registry, path: Path) -> list[Component]:
    """Load one file's components, which replace namesakes. Raises UserError as `discover` does."""
    if not path.is_file():
        raise UserError(f"the plugin {path} does not exist: give the path of a Python file.")
    # Two plugins may share a file name, so the module is named after the whole path.
    name = f"bench_plugin_{path.stem}_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()}"
    try:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError("no file that Python can import: its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        sys.modules.pop(name, None)
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        where = f" in line {lines[-1]}" if lines else ""
        raise UserError(f"the plugin {path} could not be loaded{where}: {_sentence(error)}") from error
    found = _components(module)
    if not found:
        raise UserError(f"the plugin {path} declares no component: decorate its function with @defense or @attack.")
    for component in found:
        first = registry.of(component.kind).get(component.name)
        if first is not None:
            both = f"{first.source} and {path}"
            registry.broken.append(f"the {component.kind} {component.name!r} is in {both}: the plugin is used.")
        _put(registry, component)
    return found


def _put(registry: Registry, component: Component) -> None:
    registry.of(component.kind)[component.name] = component  # type: ignore[index]


def _components(loaded: object) -> list[Component]:
    """The components that a module itself declares (not those that it imports), or that of a function."""
    if not isinstance(loaded, ModuleType):
        component = getattr(loaded, "component", None)
        return [component] if isinstance(component, Component) else []
    declared = (value for value in vars(loaded).values() if getattr(value, "__module__", None) == loaded.__name__)
    found = (getattr(value, "component", None) for value in declared)
    return list({id(component): component for component in found if isinstance(component, Component)}.values())


def _sentence(error: BaseException) -> str:
    if advice := old_imports.advice(error):
        return advice
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    except Exception:  # noqa: BLE001 - its __str__ is somebody else's code, too
        return type(error).__name__
