"""`bench release`: trains a defense once with noise from the system, and writes what it publishes to files.

Noise from a known seed protects nobody. Here the seed comes from the entropy of the operating system, exists in this
process alone and is in no file; no training is cached. What trains imports TensorFlow.
"""

from __future__ import annotations

import datetime
import errno
import os
import secrets
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.core.component import Choice
from bench.core.dataset import DataLocation, Split
from bench.core.errors import Caveat, UserError, warn_user
from bench.core.files import write
from bench.dp import accounting
from bench.runner import play
from bench.runner.release_card import FILES, Made, card, contents
from bench.runner.request import Grid
from bench.store.freshness import versions
from bench.store.records import LintFinding
from bench.store.store import Store

if TYPE_CHECKING:
    from bench.core.progress import Progress

REFUSED = 3  # the exit code where the linter found something
SPLIT = 0  # the seed of the public split: the first one of the leaderboard; the noise has no seed to name
ELSEWHERE = (  # settings that mean nothing here
    "attack", "seeds", "reuse-committed", "reference", "budget", "results",
    "workers", "scheduler", "cluster", "cluster-option", "dry-run",
)  # fmt: skip
NUMBER = "number of private records"


class Lint(Protocol):
    """Finds what is wrong with a defense that claims privacy (`bench.lint.linter.lint`)."""

    def __call__(self, choice: Choice, data: Split, seed: int, /) -> Sequence[LintFinding]: ...


@dataclass(frozen=True)
class Planned:
    """One release to make: of which records, by which defense, into which folder."""

    data: Choice
    defense: Choice
    target: Path


def check_settings(parts: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError where a configuration sets what a release does not do, or where no defense is named."""
    for name in ELSEWHERE:
        if any(part.get(name) for part in parts):
            raise UserError(
                f"`bench release` does not take the setting {name!r}: it trains each defense once, attacks nothing and "
                "stores no cell; remove it, or measure with `bench run`."
            )
    if not all(part.get("defense") for part in parts):
        raise UserError("`bench release` publishes what a defense lets out: select one with --defense NAME.")


def plan(grids: Sequence[Grid], folder: Path) -> list[Planned]:
    """The releases to make. Raises UserError for what must not or cannot be released, before anything is trained."""
    found: dict[Path, Planned] = {}
    for grid in grids:
        for data in grid.data:
            for defense in grid.defenses:
                _check(defense)
                label = _public(data, defense).label
                target = Store(folder).path(label, defense.label, "-", 0).parent.parent
                found.setdefault(target, Planned(data, defense, target))
    for target in found:
        _check_empty(target)
    _check_writable(folder)
    return list(found.values())


def _check(defense: Choice) -> None:
    component = defense.component
    if not component.private:
        raise UserError(
            f"{defense.name} claims no differential privacy, so it is not released: choose one that does; one that "
            "reads no private record says so with private=True."
        )
    if defense.settings.get("epsilon") == float("inf"):
        raise UserError(f"{defense.label} trains without privacy, so it is not released: give it a finite epsilon.")
    if not component.publishes & FILES:
        published = ", ".join(sorted(component.publishes))
        raise UserError(
            f"{defense.name} publishes {published}, of which nothing can be written to a file: choose another."
        )


def _check_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(
            f"{target} exists already and nothing is overwritten: a further release of the same records spends its "
            "epsilon once more; name another folder with --into if you mean that."
        )


def _check_writable(folder: Path) -> None:
    """Raise UserError now rather than after a training; nothing is left behind, and no folder is made."""
    existing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    probe = existing / f"{secrets.token_hex(8)}.tmp"
    write(probe, bytes(1 << 16))
    probe.unlink()


def _public(data: Choice, defense: Choice) -> Choice:
    """The data set as it may be named: without the digest of its records, and their number where that is private."""
    hidden = {"content"} if _counts(defense) else {"content", "private", "holdout", "public"}
    return Choice(data.component, {name: value for name, value in data.options.items() if name not in hidden})


def _counts(defense: Choice) -> bool:
    """Whether a defense takes the number of private records for public."""
    return any(NUMBER in fact for fact in defense.component.public_knowledge)


def run(planned: Sequence[Planned], where: DataLocation, progress: Progress, lint: Lint) -> int:
    """Make each release but those in which the linter finds something, which is reported; the exit code.

    Raises UserError where one cannot be made; those before it are complete.
    """
    code = 0
    if len(planned) > len({one.data.label for one in planned}):
        warn_user("note: several releases of the same records: their epsilons add up.")
    for i, one in enumerate(planned):
        progress.step(f"{one.defense.label} on {one.data.label}", i, len(planned))
        data, caveats = play.split(one.data, where, SPLIT)
        for caveat in caveats:
            warn_user(f"note: {caveat}")
        findings = lint(one.defense, data, SPLIT)
        for finding in findings:
            warn_user(f"{one.defense.label} is not released ({finding.probe}): {finding.what}")
        if findings:
            code = REFUSED
        else:
            _put(one.target, _make(one, data))
            progress.print(f"{one.target}: {one.defense.label} on {one.data.label}, with card.md")
    progress.step("done", len(planned), len(planned))
    return code


def _make(one: Planned, data: Split) -> Mapping[str, bytes]:
    """Train once and give the files. Raises UserError where training fails or what was spent is no finite epsilon."""
    from bench.dp import train

    try:
        with train.caching(None):
            found = play.release(data, one.defense, _entropy())
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001
        # Neither its message nor its traceback: either may hold a seed.
        kind = type(error).__name__
        raise UserError(
            f"{one.defense.label} failed while it trained ({kind}): `bench run` with this defense shows why."
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caveat)  # of the cross-check; the card shows both values
        claim = accounting.claim(found.dp_event, len(data.private))
    if claim["epsilon"] == float("inf"):
        raise UserError(f"{one.defense.label} spent an infinite epsilon, so it is not released: give finite ones.")
    public = _public(one.data, one.defense)
    made = Made(
        data=public.label,
        options={"data": _options(public, one.data), "defense": _options(one.defense, one.defense)},
        defense=one.defense,
        sizes={name: len(getattr(data, name)) for name in ("private", "holdout", "public")}
        if _counts(one.defense)
        else None,
        claim=claim,
        sampler=accounting.describe(found.dp_event),
        split=SPLIT,
        versions=versions(),
        date=datetime.date.today().isoformat(),
    )
    files, networks = contents(found)
    return files | card(made, files, networks)


def _entropy() -> int:
    """A master seed of 256 bits from the operating system."""
    return secrets.randbits(256)


def _options(shown: Choice, requested: Choice) -> dict[str, Any]:
    hidden = requested.options.keys() - shown.options.keys()
    return {name: value for name, value in shown.settings.items() if name not in hidden}


def _put(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a release whole or not at all: into a folder beside the target, card last, which is then renamed."""
    made = target.parent / f"{secrets.token_hex(8)}.tmp"
    try:
        for name, data in files.items():
            write(made / name, data)
        _check_empty(target)
        os.rename(made, target)  # never onto a folder that holds something
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            _check_empty(target)
        raise UserError(f"{target} cannot be written ({error.strerror}): choose another folder.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
