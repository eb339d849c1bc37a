"""The checks of every defense: it publishes what it declares, repeats itself, and works on records of any kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from bench.conformance.check import Skip, Unless, check, is_refusal, skip_refusals
from bench.conformance.short_runs import ShortRuns, small_data, type_errors
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import GIVEN, Release
from bench.dp import accounting

Array = NDArray[Any]


def lacks(access: str) -> Unless:
    """Says of a defense that it does not publish this access."""
    return lambda component: "" if access in component.publishes else f"it does not publish {access}."


@check("publishes what it declares")
def publishes_what_it_declares(runs: ShortRuns) -> Iterator[str]:
    """Every access in `publishes` and no other, each of the right type."""
    release, declared = runs.release(), runs.component.publishes
    for access in sorted(declared & GIVEN):
        yield f"it declares {access}, which bench adds to every defense: remove it from publishes."
    for access in sorted(release.published() - declared):
        yield f"it publishes {access}, which publishes={{...}} does not name: name it there, or leave the field None."
    for access in sorted(declared - release.published() - GIVEN):
        yield f"it declares {access} and publishes none: set that field of the Release, or remove it from publishes."
    if not isinstance(release.dp_event, DpEvent):
        yield (
            f"dp_event is a {type(release.dp_event).__name__}, not a dp_accounting.DpEvent: return what was done, as "
            "with bench.accounting.training_event, and bench computes the epsilon."
        )
    yield from type_errors(release)


@check("gives the same release for the same seed")
def same_seed_same_release(runs: ShortRuns) -> Iterator[str]:
    """Bit-identical, whatever was drawn from global generators in between."""
    release, first = runs.release(), runs.outputs()
    shared = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(3)  # noqa: NPY002 - so that a component that draws from the global state differs
        random.seed(3)
        before = global_state()
        again = runs.repeated_release()
        drew = global_state() != before
        second = runs.outputs_of(again)
    finally:
        np.random.set_state(shared[0])  # noqa: NPY002
        random.setstate(shared[1])
    if differ := changed(first, second):
        yield f"with the same seed {', '.join(differ)} differ{'s' * (len(differ) == 1)} between two trainings: " + (
            "it draws from a global state; draw from np.random.default_rng(seed)."
            if drew
            else "draw everything from `seed`, the initial weights of layers and the order of records too."
        )
    if again.dp_event != release.dp_event:
        yield "with the same seed dp_event differs between two trainings: compute it from its options alone."


def global_state() -> tuple[Any, ...]:
    """The state of the global generators of NumPy and Python."""
    state: Any = np.random.get_state()  # noqa: NPY002
    return state[1].tobytes(), *state[2:], random.getstate()


def changed(first: Mapping[str, Array], second: Mapping[str, Array]) -> list[str]:
    """The accesses in which the outputs are not bit-identical."""
    differ = (
        key.split()[0]
        for key in [*first, *(second.keys() - first.keys())]
        if key not in first or key not in second or not np.array_equal(first[key], second[key])
    )
    return list(dict.fromkeys(differ))


def movable(outputs: Mapping[str, Array]) -> set[str]:
    """The outputs that depend on a seed: neither labels, which are in turn, nor biases that are still 0."""
    zeros = {key for key in outputs if key.startswith(("model ", "encode ", "decode ")) and not outputs[key].any()}
    return {key for key in outputs if not key.endswith(" y")} - zeros


def unmoved(first: Mapping[str, Array], second: Mapping[str, Array]) -> set[str]:
    """The movable outputs that are the same for two seeds."""
    return {key for key in movable(first) if np.array_equal(first[key], second[key])}


@check("gives another release for another seed")
def another_seed_another_release(runs: ShortRuns) -> Iterator[str]:
    """All random numbers depend on the seed."""
    first, second = runs.outputs("breast_cancer"), runs.outputs("breast_cancer", seed=1)
    if unmoved(first, second) != movable(first):
        return
    if not runs.component.private or reads_nothing(runs.release("breast_cancer")):
        raise Skip("it draws nothing.")
    yield (
        "two seeds give bit-identical releases, so anyone who retrains it knows its noise: draw the noise from `seed`."
    )


def reads_nothing(release: Release) -> bool:
    """Whether its epsilon is 0."""
    return accounting.claim(release.dp_event, 200)["epsilon"] == 0


@check("does not modify its inputs")
def modifies_no_input(runs: ShortRuns) -> Iterator[str]:
    """In every training until now."""
    runs.release()
    if runs.changed_inputs:
        yield "it modified its input records: work on a copy of them."


@check("reads no records but its inputs")
def reads_only_its_inputs(runs: ShortRuns) -> Iterator[str]:
    """No training until now opened a file of records or connected to a host."""
    runs.release()
    yield from dict.fromkeys(sentence for effects in runs.side_effects for sentence in effects.violations())


# predict


def probability_errors(given: Any, n: int, classes: int) -> Iterator[str]:
    """What is wrong with the predictions for n records."""
    if not isinstance(given, np.ndarray) or given.shape != (n, classes):
        form = f"shape {given.shape}" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        yield f"predict returned {form} for {n} records: return an array of probabilities, ({n}, {classes})."
        return
    if not np.isfinite(given).all():
        yield "predict returns numbers that are not finite: avoid logarithms of 0 and divisions by 0."
    elif (given < 0).any() or not np.allclose(given.sum(1), 1, atol=1e-5):
        yield "predict returns no probabilities (at least 0, with sum 1 for each record): end it with a softmax."


@check("predicts probabilities, independently for each record", lacks("predict"))
def predicts_probabilities(runs: ShortRuns) -> Iterator[str]:
    """(n, classes), also without any record."""
    predict, data = published(runs.release(), "predict"), small_data(runs.data_name)
    queries, classes = data.holdout.x, data.private.classes
    whole = predict(queries)
    try:
        none = predict(queries[:0])
    except Exception:  # noqa: BLE001 - a plugin may raise anything
        yield "predict fails without records: return shape (0, classes); a reshape to -1 cannot."
        return
    wrong = [*probability_errors(whole, len(queries), classes), *probability_errors(none, 0, classes)]
    yield from dict.fromkeys(wrong)
    if not wrong and not all(np.allclose(predict(queries[i:j]), whole[i:j], atol=1e-5) for i, j in ((7, 9), (3, 4))):
        yield "the prediction for a record depends on the other records of the call: use no statistic of a batch."


def published(release: Release, access: str) -> Callable[..., Any]:
    """One access of a release. Raises Skip where it is None."""
    found = getattr(release, access)
    if not callable(found):
        raise Skip(f"it published no {access}.")
    function: Callable[..., Any] = found
    return function


# encode, decode, generate


@check("encodes each record independently", lacks("encode"))
def encodes_each_record(runs: ShortRuns) -> Iterator[str]:
    """Embeddings (n, d) of finite numbers."""
    encode, queries = published(runs.release(), "encode"), small_data(runs.data_name).holdout.x
    embeddings = np.asarray(encode(queries))
    if embeddings.ndim != 2 or len(embeddings) != len(queries):
        yield f"encode returned shape {embeddings.shape} for {len(queries)} records: return ({len(queries)}, d)."
    elif not np.isfinite(embeddings).all():
        yield "encode returns numbers that are not finite: avoid divisions by 0."
    elif not np.allclose(encode(queries[7:9]), embeddings[7:9], atol=1e-5):
        yield "the embedding of a record depends on the other records of the call: use no statistic of a batch."


@check("generates the requested number of records", lacks("generate"))
def generates_requested_number(runs: ShortRuns) -> Iterator[str]:
    """n records in [0, 1], the same for the same seed."""
    generate, shape = published(runs.release(), "generate"), small_data(runs.data_name).private.shape
    for n in (0, 1, 10, 25):
        made = generate(n, 3)
        if not isinstance(made, Examples):
            yield f"generate returned a {type(made).__name__}: return bench.Examples."
            return
        if made.x.shape != (n, *shape):
            yield f"for {n} records generate returned shape {made.x.shape}: return {(n, *shape)}."
        elif n and not ((made.x >= 0) & (made.x <= 1)).all():
            yield f"generate returns features from {made.x.min():.3g} to {made.x.max():.3g}: keep them in [0, 1]."
        elif not np.array_equal(made.x, generate(n, 3).x):
            yield "generate returns other records each time for one seed: draw from np.random.default_rng(its seed)."
        elif n and np.array_equal(made.x, generate(n, 4).x):
            yield "generate returns the same records for two seeds: draw from np.random.default_rng(its seed)."
        else:
            continue
        return


# Records of any kind


def release_errors(runs: ShortRuns, release: Release, name: str, where: str) -> Iterator[str]:
    """What is wrong with a release of the data set `name`."""
    data = small_data(name)
    found = runs.outputs_of(release, name)
    bad = dict.fromkeys(key.split()[0] for key, array in found.items() if not np.isfinite(array).all())
    if bad:
        yield f"{', '.join(bad)} hold{'s' * (len(bad) == 1)} numbers that are not finite {where}: avoid divisions by 0."
    elif "predict" in found:
        yield from probability_errors(found["predict"], len(data.holdout), data.holdout.classes)
    made = release.generate(23, 5) if release.generate else None
    if made is not None and (made.x.shape != (23, *data.private.shape) or made.classes != data.private.classes):
        yield f"generate returned shape {made.x.shape} {where}: return {(23, *data.private.shape)}."


@check("works with two classes and plain features")
def works_on_flat_records(runs: ShortRuns) -> Iterator[str]:
    """Records that are not images."""
    with skip_refusals():
        release = runs.release("breast_cancer")
    yield from release_errors(runs, release, "breast_cancer", "with two classes and plain features")


@check("works with one private record, and without records of a class")
def works_with_few_records(runs: ShortRuns) -> Iterator[str]:
    """Neighbouring data sets differ in one record, so no class size may stop it; five records if one is refused."""
    data = small_data("breast_cancer")
    rows = np.flatnonzero(data.private.y == 1)
    for few in (1, 5):
        try:
            release = runs.train(data.private[rows[:few]], data.public)
        except UserError as error:
            if not is_refusal(error):
                raise
            why = error
        else:
            where = f"with {few} private of one class and none of the other"
            yield from release_errors(runs, release, "breast_cancer", where)
            return
    raise Skip(f"it refuses such records: {why}")


CHECKS = (
    publishes_what_it_declares, same_seed_same_release, another_seed_another_release,
    predicts_probabilities, encodes_each_record, generates_requested_number,
    works_on_flat_records, works_with_few_records,
    modifies_no_input, reads_only_its_inputs,
)  # fmt: skip
