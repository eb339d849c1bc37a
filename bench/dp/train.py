"""One deep function: train(recipe, datasets, seeds) -> fits. Every network of the benchmark is trained here.

Trained weights are cached under a digest of recipe, records, seeds and this code, so that a new attack retrains
nothing and a killed run loses one training. TensorFlow is imported inside the functions.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bench.core.dataset import Examples
from bench.core.digest import digest
from bench.core.source_code import code_digest
from bench.dp import accounting, training_context, training_loop
from bench.dp.networks import Net
from bench.dp.recipe import PER_MODEL, Fit, Recipe
from bench.dp.tensorflow_setup import tensorflow
from bench.dp.training_context import OnProgress, RecordedTrainings, TrainingRequest, shared_settings
from bench.dp.weights_cache import WeightsCache


@contextmanager
def caching(cache: WeightsCache | None, on_progress: OnProgress | None = None) -> Iterator[None]:
    """Within this block weights are kept in `cache`, and `on_progress(what, done, total)` is called now and then."""
    with training_context.within(cache=cache, on_progress=on_progress):
        yield


@contextmanager
def recording_trainings() -> Iterator[RecordedTrainings]:
    """Record the trainings that this block requests, those within the calls of `train_jointly` too."""
    recorded = RecordedTrainings()
    with training_context.within(recorded=recorded):
        yield recorded


def device() -> str:
    """The name of the device that trained: a GPU's, or CPU, as where TensorFlow was not even loaded."""
    if "tensorflow" not in sys.modules:
        return "CPU"
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else "CPU"


def train(
    recipe: Recipe | Sequence[Recipe], datasets: Sequence[Examples], seeds: Sequence[int], what: str = "training"
) -> list[Fit]:
    """Train one network per data set, all in one program, each with its own records, batches, noise and seed.

    recipe: one for all, or one per data set; these may differ in rate, batch_size and privacy alone. Returns fits in
    the order of the data sets; each equals, to float accuracy, what training it alone would give. Raises ValueError
    for equal seeds (equal noise would cancel) and FloatingPointError where plain training diverges.
    """
    recipes = [recipe] * len(datasets) if isinstance(recipe, Recipe) else list(recipe)
    if len(recipes) != len(datasets) or len({shared_settings(one) for one in recipes}) != 1:
        raise ValueError(f"models that train as one have a recipe each, which differ in {', '.join(PER_MODEL)} alone")
    request = TrainingRequest(recipes, datasets, seeds, what)
    delegate = training_context.current().delegate
    return delegate(request) if delegate else _train(request)


def _train(request: TrainingRequest) -> list[Fit]:
    recipes, datasets, seeds = request.recipes, request.datasets, request.seeds
    if len(set(seeds)) != len(seeds) or len(seeds) != len(datasets):
        raise ValueError("every model needs a different seed: equal seeds give equal noise")
    on_progress = training_context.current().on_progress
    key = recipes, [(dataset.x, dataset.y) for dataset in datasets], list(seeds)
    found = cached(key, recipes[0].net, lambda: training_loop.fit(recipes, datasets, seeds, request.what, on_progress))
    return [_fit(one, found, k) for k, one in enumerate(recipes)]


def cached(
    key: tuple[Any, ...], net: Net, make: Callable[[], dict[str, NDArray[Any]]], code: Path = Path(__file__)
) -> dict[str, NDArray[Any]]:
    """What the cache holds for `key`, `net` and the code (the file `code` and all it reaches), else `make()`.

    What is made is cached; its "seconds" say how long it took, which `recording_trainings` adds up.
    """
    name = digest((*key, training_code(net, code)))
    context = training_context.current()
    found = context.cache.load(name) if context.cache else None
    cache_hit = found is not None
    if found is None:
        found = make()
        if context.cache:
            context.cache.save(name, found)
    recorded = context.recorded
    if recorded and name not in recorded.seconds:  # what one block requests twice would be trained once
        recorded.seconds[name] = float(found["seconds"])
        recorded.seconds_cached += cache_hit * recorded.seconds[name]
    return found


def training_code(net: Net, code: Path = Path(__file__)) -> tuple[str, ...]:
    """What decides the weights besides recipe, records and seeds: a digest of code, versions of libraries, the device.

    The file of a network counts, because networks of plugins lie outside of the benchmark.
    """
    files = (code, Path(inspect.getfile(type(net))))
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
