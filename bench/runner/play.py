"""One cell: split, train, challenge, attack, judge. Decides numbers; reads and writes no file."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Choice
from bench.core.dataset import DataLocation, Examples, Split, record_keys, shared
from bench.core.digest import digest
from bench.core.errors import Caveat, UserError
from bench.core.game import Challenge, Game
from bench.core.images import eight_bits
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.core.source_code import code_digest
from bench.dp import accounting
from bench.games import metrics
from bench.store.freshness import versions

if TYPE_CHECKING:
    from bench.dp.weights_cache import WeightsCache
    from bench.runner.cell import Cell

SAMPLES = 400  # synthetic records per release, of which SHOWN of each class are stored as pictures
SHOWN = 10


@dataclass(frozen=True)
class Trained:
    """A release and what all of its cells share."""

    release: Release
    utility: dict[str, Any]
    correct: NDArray[Any]  # which holdout records are classified correctly; empty where nothing classifies
    privacy: dict[str, Any]
    seconds: float
    fits: Mapping[str, float]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Played:
    """The outcome of one attack: its metrics, their units, pictures to look at, and its cost.

    answers, contact_sheet: arrays by name. seconds: includes what cached trainings took when they were made. fits: the
    seconds of each training that was requested.
    """

    metrics: Mapping[str, Any]
    answers: Mapping[str, NDArray[Any]]
    contact_sheet: Mapping[str, NDArray[Any]]
    seconds: float
    fits: Mapping[str, float]
    caveats: tuple[str, ...]


def split(data: Choice, where: DataLocation, seed: int) -> tuple[Split, tuple[str, ...]]:
    """The records of a split, and the caveats about them, which belong to every cell."""
    with caveats_collected() as caveats:
        parts: Split = data.component.function(where, stream(seed, "split", data.name), **data.settings)
    repeated = sum(len(part) - len(set(record_keys(part))) for part in (parts.private, parts.holdout, parts.public))
    if twice := shared(parts) + repeated:
        raise UserError(f"{data.label} holds {twice} records more than once: split it with bench.core.dataset.split.")
    return parts, tuple(caveats)


def release(data: Split, defense: Choice, seed: int) -> Release:
    """Train a defense on a split: what it publishes, and `retrain`, which trains it on the attacker's records.

    Raises ValueError where it does not publish exactly what it declares.
    """
    function, settings = defense.component.function, defense.settings
    # Options and sizes name the stream too: if two rows with different epsilon had the same noise, an adversary
    # who sees both could subtract it.
    sizes = (len(data.private), len(data.holdout), len(data.public))
    defense_seed = derive(seed, "defense", defense.label, data.name, *sizes)
    released: Release = function(data.private, data.public, seed=defense_seed, **settings)
    if not isinstance(released, Release):
        raise ValueError(f"{defense.name} returned a {type(released).__name__}, not a Release")
    if released.published() ^ defense.component.publishes:
        accesses = (defense.component.publishes, released.published())
        declared, published = (", ".join(sorted(names)) for names in accesses)
        raise ValueError(
            f"{defense.name} declares that it publishes {declared}, but published {published or 'nothing'}"
        )

    def retrain(private: Examples, seed: int, public: Examples | None = None) -> Release:
        retrained: Release = function(private, data.public if public is None else public, seed=seed, **settings)
        return retrained

    return replace(released, retrain=retrain)


def train(data: Split, defense: Choice, seed: int) -> Trained:
    """Train a defense on a split, measure its utility and compute its guarantee."""
    from bench.dp.train import recording_trainings

    with caveats_collected() as caveats:
        start = time.perf_counter()
        with recording_trainings() as fits:
            released = release(data, defense, seed)
        seconds = time.perf_counter() - start + fits.seconds_cached  # cached trainings count as if they were made now
        correct = _correct(released, data, seed)
        utility: dict[str, Any] = {"not_measurable": "neither a predictor nor synthetic records are published"}
        if len(correct):
            utility = {"accuracy": metrics.accuracy(correct), "n": len(correct)}
        claim: dict[str, Any] = dict(accounting.claim(released.dp_event, len(data.private)))
        if defense.component.private and defense.settings.get("epsilon") not in (None, float("inf")):
            requested = float(defense.settings["epsilon"])  # type: ignore[arg-type]
            if claim["epsilon"] > requested * (1 + 1e-6):
                caveat = f"spent epsilon {claim['epsilon']:.3f}, above the {requested:g} asked for"
                warnings.warn(Caveat(caveat), stacklevel=1)
    privacy = {name: "inf" if value == float("inf") else value for name, value in claim.items()}
    privacy |= {
        "relation": accounting.RELATION,
        "sampler": accounting.describe(released.dp_event),
        "public_knowledge": list(defense.component.public_knowledge),
    }
    return Trained(released, utility, correct, privacy, seconds, fits.seconds, tuple(caveats))


def samples(cell: Cell, release: Release) -> dict[str, NDArray[Any]]:
    """Some synthetic records of each class, where records are pictures, to be displayed without the release."""
    if release.generate is None or "pictures" not in cell.data.component.has:
        return {}
    synthetic = release.generate(SAMPLES, derive(cell.seed, "samples"))
    rows = {f"class {label}": synthetic.x[synthetic.y == label][:SHOWN] for label in range(synthetic.classes)}
    return {name: eight_bits(row) for name, row in rows.items()}


def _correct(release: Release, data: Split, seed: int) -> NDArray[Any]:
    """Which holdout records (n,) the published predictor, or one trained on synthetic records, classifies correctly."""
    predict = release.predict
    if predict is None and release.synthetic is not None:
        from bench.models.classifier import classify

        predict = classify(release.synthetic, derive(seed, "utility"), what="classifier on synthetic records").predict
    if predict is None:
        return np.zeros(0, bool)
    return np.asarray(predict(data.holdout.x).argmax(1) == data.holdout.y)


def _game(cell: Cell) -> Game:
    game = cell.attack.component.game
    assert game is not None
    return game


def question(cell: Cell) -> tuple[str, str]:
    """The game of a cell, and which records are its targets."""
    return _game(cell).name, str(cell.attack.settings.get("of", "private"))


def challenge(data: Split, cell: Cell) -> Challenge:
    """The challenge of a cell: the same for every defense and attack on this split."""
    game, of = question(cell)
    return _game(cell).challenge(data, stream(cell.seed, "challenge", game, of, data.name), of)


def measure(data: Split, cell: Cell, trained: Trained, challenge: Challenge, cache: WeightsCache) -> Played:
    """Attack one release and judge the answer."""
    from bench.dp.train import recording_trainings

    game, of = _game(cell), question(cell)[1]
    options = {name: value for name, value in cell.attack.settings.items() if name not in game.options}
    with caveats_collected() as caveats:
        start = time.perf_counter()
        with recording_trainings() as fits:
            allowed = trained.release.only(cell.attack.component.needs)
            seed = derive(cell.seed, "attack", cell.attack.name)
            targets = game.targets_visible(challenge, allowed)
            answer = cell.attack.component.function(allowed, targets, challenge.public, seed=seed, **options)
        seconds = time.perf_counter() - start + fits.seconds_cached
        baseline = baseline_answer(game, challenge, derive(cell.seed, "blind", game.name, of), cache)
        judged = dict(game.judge(answer, baseline, challenge, stream(cell.seed, "judge", game.name)))
    answers = {**judged.pop("answers", {}), "correct": trained.correct}
    contact_sheet = game.contact_sheet(answer, baseline, challenge) if game.contact_sheet else {}
    return Played(judged, answers, contact_sheet, seconds, fits.seconds, tuple(caveats))


def baseline_answer(game: Game, challenge: Challenge, seed: int, cache: WeightsCache) -> NDArray[Any]:
    """The baseline answer, cached: it depends on the challenge alone and is the same for every defense and attack."""
    code = code_digest([Path(inspect.getsourcefile(inspect.unwrap(game.baseline)) or __file__)])
    key = digest(("baseline", game.name, code, challenge, seed, versions()))
    cached = cache.load(key)
    if cached is None or set(cached) != {"answer"}:
        cached = {"answer": game.baseline(challenge, seed)}
        cache.save(key, cached)
    return cached["answer"]


@contextmanager
def caveats_collected() -> Iterator[list[str]]:
    """Collect the Caveats that are raised within; pass other warnings on."""
    caveats: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Caveat)
        yield caveats
    for warning in caught:
        if issubclass(warning.category, Caveat):
            caveats.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
