"""One deep function: train(recipe, parts, seeds) -> fits. Every network that is trained anywhere is trained here.

What was trained once is remembered as weights under a digest of recipe, records, seeds and this code, so that a new
attack retrains nothing and a killed run loses one fit. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.digest import digest
from bench.core.errors import UserError
from bench.core.source_code import code_digest
from bench.dp import accounting, networks
from bench.dp import training_loop as engine
from bench.dp.training_loop import Say, tensorflow
from bench.dp.weights_cache import WeightsCache

if TYPE_CHECKING:
    from dp_accounting import DpEvent

T = TypeVar("T")
ENGINES = ("onepass", "vectorized")
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
# What the models of one program may differ in; the rest decides the shape of the program.
OWN = ("rate", "batch_size", "privacy")
_cache: ContextVar[WeightsCache | None] = ContextVar("cache", default=None)
_say: ContextVar[Say | None] = ContextVar("say", default=None)
_turn: ContextVar[_Turn[Any] | None] = ContextVar("turn", default=None)
_fits: ContextVar[Fits | None] = ContextVar("fits", default=None)


@dataclass(frozen=True)
class Privacy:
    """The two numbers of the Gaussian mechanism: clip of one record's gradient, and noise in multiples of it."""

    l2_norm_clip: float
    noise_multiplier: float


def _check_plan(steps: int, rate: float) -> None:
    if steps < 1 or not 0 < rate <= 1:
        raise UserError(f"steps must be at least 1 and the sampling rate in (0, 1], not {steps} and {rate:g}.")


@dataclass(frozen=True)
class Recipe:
    """How to train: `steps` Poisson lots, each record with chance `rate`, sums divided by the constant `batch_size`.

    batch_size: a public constant (the expected size, from public numbers only); privacy: None trains plainly.
    engine: "onepass" clips from one backward pass, "vectorized" is the reference for any layers.
    momentum: of SGD (default 0), or Adam's beta_1 (default 0.9); schedule: of the learning rate, down to 0 or constant.
    ema: decay of the average of the weights over the steps, which is what is returned; 0 returns the last weights.
    clip_networks: clip each network of several (encoder, decoder) for itself, with equal shares of the clip.
    physical_batch: most records that are computed at once; a larger lot is added up from pieces and noised once.
    """

    net: networks.Net
    steps: int
    rate: float
    batch_size: float
    learning_rate: float
    optimizer: str = "adam"
    momentum: float | None = None
    schedule: str = "constant"
    ema: float = 0.0
    privacy: Privacy | None = None
    clip_networks: bool = False
    engine: str = "onepass"
    physical_batch: int = 4096

    def __post_init__(self) -> None:
        _check_plan(self.steps, self.rate)
        if not (self.learning_rate > 0 and self.batch_size > 0):
            raise UserError(
                f"learning_rate and batch_size must be above 0, not {self.learning_rate:g} and {self.batch_size:g}."
            )
        if not (0 <= self.ema < 1 and 0 <= (self.momentum or 0) < 1):
            raise UserError(f"ema and momentum must be from 0 to below 1, not {self.ema:g} and {self.momentum}.")
        if self.physical_batch < 1:
            raise UserError(f"physical_batch must be at least 1, not {self.physical_batch}.")
        for option, known in (("engine", ENGINES), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if (value := getattr(self, option)) not in known:
                raise UserError(f"{option} is one of {', '.join(known)}, not {value}.")


@dataclass(frozen=True)
class Fit:
    """Trained weights (as of one Keras model, in its order), the steps that ran, and what they cost the records."""

    weights: networks.Weights
    steps: int
    seconds: float
    dp_event: DpEvent


def private_training(epsilon: float, n: int, rate: float, steps: int, l2_norm_clip: float) -> Privacy | None:
    """The clip and the least noise that keep `steps` Poisson steps within epsilon at the rule's delta; None for inf."""
    _check_plan(steps, rate)
    if not 0 < l2_norm_clip < float("inf"):
        raise UserError(f"l2_norm_clip must be a number above 0, not {l2_norm_clip:g}.")
    if epsilon == float("inf"):
        return None
    delta = accounting.delta_for(n)
    return Privacy(l2_norm_clip, accounting.noise_multiplier(epsilon, delta, rate, steps))


@contextlib.contextmanager
def caching(cache: WeightsCache | None, say: Say | None = None) -> Iterator[None]:
    """Within this block fits are kept in `cache`, and `say(what, done, total)` hears of progress."""
    memory, voice = _cache.set(cache), _say.set(say)
    try:
        yield
    finally:
        _cache.reset(memory)
        _say.reset(voice)


@dataclass
class Fits:
    """The fits that a block asked for: by key what each took when it was made, and of those remembered the sum."""

    seconds: dict[str, float] = field(default_factory=dict)
    recalled: float = 0.0


@contextlib.contextmanager
def recording_trainings() -> Iterator[Fits]:
    """Count the fits that are asked for within this block, those within the calls of `train_jointly` too."""
    fits = Fits()
    before = _fits.set(fits)
    try:
        yield fits
    finally:
        _fits.reset(before)


def device() -> str:
    """The name of the device that trains: a GPU's, or CPU."""
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else "CPU"


def train(
    recipe: Recipe | Sequence[Recipe], parts: Sequence[Examples], seeds: Sequence[int], what: str = "training"
) -> list[Fit]:
    """Train one network a part, all in one program, each with its own records, batches, noise and seed.

    recipe: one for all, or one a part; these may differ in rate, batch_size, clip and noise multiplier alone. Returns
    fits in the order of the parts; each equals, to float accuracy, what training it alone would give. Raises ValueError
    for equal seeds (equal noise would cancel) and FloatingPointError where plain training diverges.
    """
    recipes = [recipe] * len(parts) if isinstance(recipe, Recipe) else list(recipe)
    if len(recipes) != len(parts) or len({_shared(one) for one in recipes}) != 1:
        raise ValueError(f"models that train as one have a recipe each, which differ in {', '.join(OWN)} alone")
    turn = _turn.get()
    return turn.ask(_Asked(recipes, parts, seeds, what)) if turn else _train(recipes, parts, seeds, what)


def _train(recipes: Sequence[Recipe], parts: Sequence[Examples], seeds: Sequence[int], what: str) -> list[Fit]:
    if len(set(seeds)) != len(seeds) or len(seeds) != len(parts):
        raise ValueError("every model needs a seed of its own: equal seeds give equal noise")
    asked = recipes, [(part.x, part.y) for part in parts], list(seeds)
    found = remembered(asked, recipes[0].net, lambda: engine.fit(recipes, parts, seeds, what, _say.get()))
    return [_fit(one, found, k) for k, one in enumerate(recipes)]


def remembered(
    asked: tuple[Any, ...], net: networks.Net, make: Callable[[], dict[str, NDArray[Any]]], code: Path = Path(__file__)
) -> dict[str, NDArray[Any]]:
    """What is kept for `asked`, `net` and the code that trains (the file `code` and all it reaches), else `make()`.

    It is kept then; its "seconds" say how long it took, which `recording_trainings` adds up.
    """
    key = digest((*asked, _code(net, code)))
    cache, fits = _cache.get(), _fits.get()
    found = cache.load(key) if cache else None
    recalled = found is not None
    if found is None:
        found = make()
        if cache:
            cache.save(key, found)
    if fits and key not in fits.seconds:  # what one block asks for twice would be trained once
        fits.seconds[key] = float(found["seconds"])
        fits.recalled += recalled * fits.seconds[key]
    return found


def progress(what: str, done: int, total: int) -> None:
    """Tell whoever listens how far something long is."""
    if say := _say.get():
        say(what, done, total)


def _shared(recipe: Recipe) -> tuple[Any, ...]:
    """What recipes of one program must have in common."""
    fields = {**vars(recipe), "rate": None, "batch_size": None, "privacy": recipe.privacy is None}
    return tuple(fields.items())


def _code(net: networks.Net, code: Path) -> tuple[str, ...]:
    files = (code, Path(inspect.getfile(type(net))))  # somebody else's network is somebody else's code
    packages = ("tensorflow", "keras", "tensorflow-privacy", "numpy")
    return (code_digest(files), *map(version, packages), device())


def _fit(recipe: Recipe, found: dict[str, NDArray[Any]], k: int) -> Fit:
    steps = int(found["steps"])
    if steps != recipe.steps:
        raise ValueError(f"{steps} steps ran, but {recipe.steps} would be accounted")
    count = len([name for name in found if name.startswith("w")])
    sigma = recipe.privacy.noise_multiplier if recipe.privacy else 0.0
    dp_event = accounting.training_event(recipe.rate, sigma, steps)
    return Fit([found[f"w{i}"][k] for i in range(count)], steps, float(found["seconds"]), dp_event)


def train_jointly(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Results of calls that take turns, so that the networks of one shape that they train are trained as one.

    A call is a whole procedure, say a defense on records of its own. One runs at a time, until it trains; what all are
    waiting for by then is trained in as few programs as there are shapes, and they go on. So shadow models and seeds
    cost hardly more than one, through any defense. Each result equals, to float accuracy, what the call alone gives.
    Raises what the first failing call raised; two calls that train with equal seeds are refused as `train` does.
    """
    turns = [_Turn(call) for call in calls]
    try:
        while True:
            for turn in turns:
                turn.go_on()
            waiting = [turn for turn in turns if turn.asked]
            if not waiting:
                return [turn.result for turn in turns]
            shapes: dict[Any, list[_Turn[T]]] = {}
            for turn in waiting:
                shapes.setdefault(turn.asked.shape, []).append(turn)  # type: ignore[union-attr]
            for group in shapes.values():
                _answer(group)
    finally:
        for turn in turns:
            turn.leave()


@dataclass(frozen=True)
class _Asked:
    """One call of `train`."""

    recipes: Sequence[Recipe]
    parts: Sequence[Examples]
    seeds: Sequence[int]
    what: str

    @property
    def shape(self) -> Any:
        """Equal for calls that can be one program."""
        return _shared(self.recipes[0]), self.what


class _Turn(Generic[T]):
    """A call in a thread of its own, of which only one ever runs: a thread, for it stops in the midst of the call."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.result: Any = None
        self.asked: _Asked | None = None
        self.answer: list[Fit] | None = None
        self.error: BaseException | None = None
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._left = False
        self._call = call
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run,), daemon=True)

    def go_on(self) -> None:
        """Let it run until it trains or ends; raises what it raised."""
        if not self._thread.ident:
            self._thread.start()
        elif not self._thread.is_alive():
            return
        self._mine.release()
        self._theirs.acquire()
        if not self.asked:
            self._thread.join()
        if self.error:
            raise self.error

    def ask(self, asked: _Asked) -> list[Fit]:
        """Wait, within the call, for somebody to train."""
        self.asked = asked
        self._theirs.release()
        self._mine.acquire()
        self.asked = None
        if self._left or self.answer is None:
            raise _Left
        return self.answer

    def leave(self) -> None:
        """End a call that still waits, because another one failed."""
        if self.asked:
            self._left = True
            self._mine.release()
            self._thread.join()

    def _run(self) -> None:
        _turn.set(self)
        self._mine.acquire()
        try:
            self.result = self._call()
        except _Left:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by go_on, where somebody listens
            self.error = error
        self._theirs.release()


class _Left(BaseException):
    """Unwinds a call that nobody waits for any more; not an Exception, which the call might handle."""


def _answer(group: Sequence[_Turn[Any]]) -> None:
    """Train what a group asks for as one, and give everybody the own models."""
    asked = [turn.asked for turn in group if turn.asked]
    recipes = [recipe for one in asked for recipe in one.recipes]
    parts = [part for one in asked for part in one.parts]
    seeds = [seed for one in asked for seed in one.seeds]
    fits = iter(train(recipes, parts, seeds, asked[0].what))  # a call of many may itself be one of many
    for turn, one in zip(group, asked, strict=True):
        turn.answer = list(itertools.islice(fits, len(one.parts)))
