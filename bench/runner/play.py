"""One cell, played: split, train, challenge, attack, judge. Decides numbers; reads and writes nothing."""

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
from bench.core.dataset import Data, Examples, Where, record_keys, shared
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

SAMPLES = 400  # drawn of a release, of which SHOWN of each class are kept as pictures
SHOWN = 10


@dataclass(frozen=True)
class Trained:
    """A release with all that its cells share."""

    release: Release
    utility: dict[str, Any]
    correct: NDArray[Any]  # which holdout records are classified correctly; none where nobody can say
    privacy: dict[str, Any]
    seconds: float
    fits: Mapping[str, float]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Played:
    """What came of one attack: its metrics, what they are made of, pictures to look at, and what it cost.

    answers, contact_sheet: arrays by name. seconds: with what remembered trainings once took; fits: those asked for.
    """

    metrics: Mapping[str, Any]
    answers: Mapping[str, NDArray[Any]]
    contact_sheet: Mapping[str, NDArray[Any]]
    seconds: float
    fits: Mapping[str, float]
    caveats: tuple[str, ...]


def split(data: Choice, where: Where, seed: int) -> tuple[Data, tuple[str, ...]]:
    """The records, and the doubts about them, which belong to every cell."""
    with caveats_collected() as caveats:
        found: Data = data.component.function(where, stream(seed, "split", data.name), **data.settings)
    repeated = sum(len(part) - len(set(record_keys(part))) for part in (found.private, found.holdout, found.public))
    if twice := shared(found) + repeated:
        raise UserError(f"{data.label} holds {twice} records more than once: split it with bench.core.dataset.split.")
    return found, tuple(caveats)


def release(data: Data, defense: Choice, seed: int) -> Release:
    """Train a defense on a split; what it publishes, and with `retrain` on the attacker's own records beside it.

    Raises ValueError where it does not publish what it declares.
    """
    function, settings = defense.component.function, defense.settings
    # Options and sizes name the stream too: with the noise of epsilon 1 in the row of epsilon 8, whoever sees both
    # rows could subtract it.
    sizes = (len(data.private), len(data.holdout), len(data.public))
    own = derive(seed, "defense", defense.label, data.name, *sizes)
    found: Release = function(data.private, data.public, seed=own, **settings)
    if not isinstance(found, Release):
        raise ValueError(f"{defense.name} returned a {type(found).__name__}, not a Release")
    wrong = found.published() ^ defense.component.publishes
    if wrong:
        declared, let_out = (", ".join(sorted(names)) for names in (defense.component.publishes, found.published()))
        raise ValueError(f"{defense.name} declares that it publishes {declared}, but published {let_out or 'nothing'}")

    def retrain(private: Examples, seed: int, public: Examples | None = None) -> Release:
        again: Release = function(private, data.public if public is None else public, seed=seed, **settings)
        return again

    return replace(found, retrain=retrain)


def train(data: Data, defense: Choice, seed: int) -> Trained:
    from bench.dp.train import recording_trainings

    with caveats_collected() as caveats:
        start = time.perf_counter()
        with recording_trainings() as fits:
            found = release(data, defense, seed)
        seconds = time.perf_counter() - start + fits.seconds_cached  # a remembered fit still cost what it cost
        correct = _correct(found, data, seed)
        utility: dict[str, Any] = {"not_measurable": "neither a predictor nor synthetic records are published"}
        if len(correct):
            utility = {"accuracy": metrics.accuracy(correct), "n": len(correct)}
        claim: dict[str, Any] = dict(accounting.claim(found.dp_event, len(data.private)))
        if defense.component.private and defense.settings.get("epsilon") not in (None, float("inf")):
            asked = float(defense.settings["epsilon"])  # type: ignore[arg-type]
            if claim["epsilon"] > asked * (1 + 1e-6):
                caveat = f"spent epsilon {claim['epsilon']:.3f}, above the {asked:g} asked for"
                warnings.warn(Caveat(caveat), stacklevel=1)
    privacy = {name: "inf" if value == float("inf") else value for name, value in claim.items()}
    privacy |= {
        "relation": accounting.RELATION,
        "sampler": accounting.describe(found.dp_event),
        "public_knowledge": list(defense.component.public_knowledge),
    }
    return Trained(found, utility, correct, privacy, seconds, fits.seconds, tuple(caveats))


def samples(cell: Cell, found: Release) -> dict[str, NDArray[Any]]:
    """A few samples of each class, where they are pictures: the figure of them is drawn later, without the release."""
    if found.generate is None or "pictures" not in cell.data.component.has:
        return {}
    made = found.generate(SAMPLES, derive(cell.seed, "samples"))
    rows = {f"class {label}": made.x[made.y == label][:SHOWN] for label in range(made.classes)}
    return {name: eight_bits(row) for name, row in rows.items()}


def _correct(found: Release, data: Data, seed: int) -> NDArray[Any]:
    """Which holdout records (n,) the published predictor, or a classifier of the synthetic records, gets right."""
    predict = found.predict
    if predict is None and found.synthetic is not None:
        from bench.models.classifier import classify

        predict = classify(found.synthetic, derive(seed, "utility"), what="classifier on synthetic records").predict
    if predict is None:
        return np.zeros(0, bool)
    return np.asarray(predict(data.holdout.x).argmax(1) == data.holdout.y)


def _game(cell: Cell) -> Game:
    game = cell.attack.component.game
    assert game is not None
    return game


def question(cell: Cell) -> tuple[str, str]:
    """The game of a cell, and whose records it asks about."""
    return _game(cell).name, str(cell.attack.settings.get("of", "private"))


def challenge(data: Data, cell: Cell) -> Challenge:
    game, of = question(cell)
    return _game(cell).challenge(data, stream(cell.seed, "challenge", game, of, data.name), of)


def measure(data: Data, cell: Cell, trained: Trained, challenge: Challenge, cache: WeightsCache) -> Played:
    """Attack one release and judge the answer."""
    from bench.dp.train import recording_trainings

    game, of = _game(cell), question(cell)[1]
    own = {name: value for name, value in cell.attack.settings.items() if name not in game.options}
    with caveats_collected() as caveats:
        start = time.perf_counter()
        with recording_trainings() as fits:
            allowed = trained.release.only(cell.attack.component.needs)
            seed = derive(cell.seed, "attack", cell.attack.name)
            targets = game.targets_visible(challenge, allowed)
            answer = cell.attack.component.function(allowed, targets, challenge.public, seed=seed, **own)
        seconds = time.perf_counter() - start + fits.seconds_cached
        baseline = baseline_answer(game, challenge, derive(cell.seed, "blind", game.name, of), cache)
        judged = dict(game.judge(answer, baseline, challenge, stream(cell.seed, "judge", game.name)))
    answers = {**judged.pop("answers", {}), "correct": trained.correct}
    contact_sheet = game.contact_sheet(answer, baseline, challenge) if game.contact_sheet else {}
    return Played(judged, answers, contact_sheet, seconds, fits.seconds, tuple(caveats))


def baseline_answer(game: Game, challenge: Challenge, seed: int, cache: WeightsCache) -> NDArray[Any]:
    """The blind answer, remembered: it depends on the challenge alone and is the same for every defense and attack."""
    own = code_digest([Path(inspect.getsourcefile(inspect.unwrap(game.baseline)) or __file__)])
    key = digest(("baseline", game.name, own, challenge, seed, versions()))
    found = cache.load(key)
    if found is None or set(found) != {"answer"}:
        found = {"answer": game.baseline(challenge, seed)}
        cache.save(key, found)
    return found["answer"]


@contextmanager
def caveats_collected() -> Iterator[list[str]]:
    """Collect the Doubts warned of within; pass other warnings on."""
    caveats: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Caveat)
        yield caveats
    for warning in caught:
        if issubclass(warning.category, Caveat):
            caveats.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
