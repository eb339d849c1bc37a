"""The crossing: every chosen defense against every attack that can be played, each cell saved once it is judged."""

from __future__ import annotations

import inspect
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Choice
from bench.core.dataset import Data, Examples, Where, record_keys, shared
from bench.core.errors import Doubt, UserError
from bench.core.game import Challenge, Game
from bench.core.images import eight_bits
from bench.core.progress import Progress
from bench.core.randomness import derive, stream
from bench.core.release import Release
from bench.dp import accounting
from bench.games import metrics
from bench.report.budget import Budget
from bench.runner.cell import Cell, asked, code, freshness, stored, versions
from bench.runner.registry import Registry, Request
from bench.store.store import Result, Store, digest, samples_of, source_digest

SAMPLES = 400  # drawn of a release, of which SHOWN of each class are kept as pictures
SHOWN = 10


@dataclass
class Outcome:
    """What a run did: cells measured now, stored already, failed with the reason, and left by a budget."""

    failed: dict[tuple[str, str, str, int], str] = field(default_factory=dict)
    measured: int = 0
    stored: int = 0
    left: list[tuple[str, str, str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Trained:
    """A release with all that its cells share."""

    release: Release
    utility: dict[str, Any]
    correct: NDArray[Any]  # which holdout records are classified correctly; none where nobody can say
    privacy: dict[str, Any]
    seconds: float
    fits: Mapping[str, float]
    doubts: tuple[str, ...]


def run(request: Request, registry: Registry, store: Store, progress: Progress) -> Outcome:
    """Measure what is asked for and not stored; a cell that fails is reported and the rest goes on."""
    outcome = Outcome()
    groups = _todo(request, store, outcome)
    if not groups:
        return outcome
    store.check_writable()
    from bench.dp import train

    total = sum(map(len, groups))
    splits: dict[tuple[str, int], tuple[Data, tuple[str, ...]]] = {}
    budget = None if request.budget is None else Budget(request.budget, store, freshness(registry))
    turns: Iterable[list[Cell]] = budget.turns([cell for cells in groups for cell in cells]) if budget else groups

    def say(what: str) -> None:
        progress.step(what, outcome.measured + len(outcome.failed), total)

    def training_says(what: str, done: int, steps: int) -> None:
        say(f"{what}, step {done} of {steps}")

    with train.remembering(store, training_says):
        for cells in turns:
            data, defense, seed = cells[0].data, cells[0].defense, cells[0].seed
            done = outcome.measured + len(outcome.failed)
            progress.step(f"{defense.label} on {data.label}, seed {seed}", done, total)
            with _failing(outcome, cells, "the data set failed"):
                if (data.label, seed) not in splits:
                    splits = {(data.label, seed): _split(data, request.where, seed)}  # one at a time: they can be large
                _play(*splits[data.label, seed], cells, store, outcome, say, budget)
    if budget:
        undone = (cell for cells in groups for cell in cells if not stored(cell, store, store.machine))
        outcome.left = [cell.name for cell in undone if cell.name not in outcome.failed]
    progress.step("done", total - len(outcome.left), total)
    return outcome


def _todo(request: Request, store: Store, outcome: Outcome) -> list[list[Cell]]:
    """The playable cells without a fresh result, grouped by what is trained for them."""
    groups: dict[tuple[str, int], dict[str, list[Cell]]] = {}  # by split first, as one is in memory at a time
    machine = None if request.accept_published else store.machine
    for cell in asked(request.crossings):
        if stored(cell, store, machine):
            outcome.stored += 1
        else:
            split = groups.setdefault((cell.data.label, cell.seed), {})
            split.setdefault(cell.defense.label, []).append(cell)
    return [cells for split in groups.values() for cells in split.values()]


def _split(data: Choice, where: Where, seed: int) -> tuple[Data, tuple[str, ...]]:
    """The records, and the doubts about them, which belong to every cell."""
    with _doubting() as doubts:
        split: Data = data.component.function(where, stream(seed, "split", data.name), **data.settings)
    repeated = sum(len(part) - len(set(record_keys(part))) for part in (split.private, split.holdout, split.public))
    if twice := shared(split) + repeated:
        raise UserError(f"{data.label} holds {twice} records more than once: split it with bench.core.dataset.split.")
    return split, tuple(doubts)


def _play(
    data: Data,
    doubts: tuple[str, ...],
    cells: Sequence[Cell],
    store: Store,
    outcome: Outcome,
    say: Callable[[str], None],
    budget: Budget | None,
) -> None:
    """Train one defense, then play every attack of its cells, those that the budget still allows by then."""
    trained = None
    _reset_peak()
    # Drawn before training: what is too small to ask about should not be trained for.
    challenges = {_of(cell): _challenge(data, cell) for cell in {_of(cell): cell for cell in cells}.values()}
    with _failing(outcome, cells, "training failed"):
        trained = _train(data, cells[0].defense, cells[0].seed)
        trained = replace(trained, doubts=(*doubts, *trained.doubts))
        _keep_samples(cells[0], trained.release, store)
        store.save_asked(cells[0].training_digest(), trained.fits)
    for cell in cells if trained else ():
        if budget and not budget.allows(cell):
            continue
        say(f"{cell.defense.label} on {cell.data.label}, seed {cell.seed}, against {cell.attack.label}")
        with _failing(outcome, [cell], "the attack failed"):
            store.save(_measure(data, cell, trained, challenges[_of(cell)], store))
            outcome.measured += 1


@contextmanager
def _failing(outcome: Outcome, cells: Sequence[Cell], what: str) -> Iterator[None]:
    """Turn a component's own bug into failed cells, so that it does not stop the others; a UserError stops the run."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001
        reason = " ".join(f"{what}, {type(error).__name__}: {error}".split())
        outcome.failed |= {cell.name: reason for cell in cells}


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


def _train(data: Data, defense: Choice, seed: int) -> _Trained:
    from bench.dp.train import counting

    with _doubting() as doubts:
        start = time.perf_counter()
        with counting() as fits:
            found = release(data, defense, seed)
        seconds = time.perf_counter() - start + fits.recalled  # a remembered fit still cost what it cost
        correct = _correct(found, data, seed)
        utility: dict[str, Any] = {"not_measurable": "neither a predictor nor synthetic records are published"}
        if len(correct):
            utility = {"accuracy": metrics.accuracy(correct), "n": len(correct)}
        claim: dict[str, Any] = dict(accounting.claim(found.spent, len(data.private)))
        if defense.component.private and defense.settings.get("epsilon") not in (None, float("inf")):
            asked = float(defense.settings["epsilon"])  # type: ignore[arg-type]
            if claim["epsilon"] > asked * (1 + 1e-6):
                doubt = f"spent epsilon {claim['epsilon']:.3f}, above the {asked:g} asked for"
                warnings.warn(Doubt(doubt), stacklevel=1)
    privacy = {name: "inf" if value == float("inf") else value for name, value in claim.items()}
    privacy |= {
        "relation": accounting.RELATION,
        "sampler": accounting.describe(found.spent),
        "assumes": list(defense.component.assumes),
    }
    return _Trained(found, utility, correct, privacy, seconds, fits.seconds, tuple(doubts))


def _keep_samples(cell: Cell, found: Release, store: Store) -> None:
    """A few samples of each class, where they are pictures: the figure of them is drawn later, without the release."""
    if found.generate is None or "pictures" not in cell.data.component.has:
        return
    made = found.generate(SAMPLES, derive(cell.seed, "samples"))
    rows = {f"class {label}": made.x[made.y == label][:SHOWN] for label in range(made.classes)}
    store.save_sheet(samples_of(cell.name), {name: eight_bits(row) for name, row in rows.items()})


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


def _of(cell: Cell) -> tuple[str, str]:
    """The game of a cell, and whose records it asks about."""
    return _game(cell).name, str(cell.attack.settings.get("of", "private"))


def _challenge(data: Data, cell: Cell) -> Challenge:
    game, of = _of(cell)
    return _game(cell).challenge(data, stream(cell.seed, "challenge", game, of, data.name), of)


def _measure(data: Data, cell: Cell, trained: _Trained, challenge: Challenge, store: Store) -> Result:
    from bench.dp import train

    game, of = _game(cell), _of(cell)[1]
    own = {name: value for name, value in cell.attack.settings.items() if name not in game.options}
    with _doubting() as doubts:
        start = time.perf_counter()
        with train.counting() as fits:
            allowed = trained.release.only(cell.attack.component.needs)
            seed = derive(cell.seed, "attack", cell.attack.name)
            targets = game.show(challenge, allowed)
            answer = cell.attack.component.function(allowed, targets, challenge.public, seed=seed, **own)
        seconds = time.perf_counter() - start + fits.recalled
        blind = blind_answer(game, challenge, derive(cell.seed, "blind", game.name, of), store)
        judged = dict(game.judge(answer, blind, challenge, stream(cell.seed, "judge", game.name)))
    store.save_answers(cell.name, {**judged.pop("answers", {}), "correct": trained.correct})
    if game.sheet:
        store.save_sheet(cell.name, game.sheet(answer, blind, challenge))
    store.save_asked(cell.digest(), fits.seconds)
    components = (cell.data.component, cell.defense.component, cell.attack.component)
    return Result(
        data=cell.data.label,
        defense=cell.defense.label,
        attack=cell.attack.label,
        game=game.name,
        seed=cell.seed,
        options=cell.options,
        digest=cell.digest(),
        code=code(*components),
        versions=versions(),
        machine=store.machine,
        device=train.device(),
        utility=trained.utility,
        privacy=trained.privacy,
        metrics=judged,
        seconds={"defense": round(trained.seconds, 3), "attack": round(seconds, 3)},
        peak_memory_mib=_peak(),
        doubts=list(dict.fromkeys((*trained.doubts, *doubts))),
    )


def blind_answer(game: Game, challenge: Challenge, seed: int, store: Store) -> NDArray[Any]:
    """The blind answer, remembered: it depends on the challenge alone and is the same for every defense and attack."""
    own = source_digest(Path(inspect.getsourcefile(inspect.unwrap(game.blind)) or __file__))
    key = digest(("blind", game.name, own, challenge, seed, versions()))
    found = store.load_fit(key)
    if found is None or set(found) != {"answer"}:
        found = {"answer": game.blind(challenge, seed)}
        store.save_fit(key, found)
    return found["answer"]


@contextmanager
def _doubting() -> Iterator[list[str]]:
    """Collect the Doubts warned of within; pass other warnings on."""
    doubts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Doubt)
        yield doubts
    for warning in caught:
        if issubclass(warning.category, Doubt):
            doubts.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _reset_peak() -> None:
    """Start the kernel's peak of resident memory anew, where it lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """Peak resident memory in MiB, since the last reset on Linux, else since the start of the process."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return round(int(found[1]) / 1024, 1)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
