"""What every defense owes: it lets out what it declares, repeats itself, and works on records of any kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from bench.conformance.check import Skip, Unless, check, refusable, refusal
from bench.conformance.short_runs import Tried, kinds, small
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import GIVEN, Release
from bench.dp import accounting

Array = NDArray[Any]


def without(access: str) -> Unless:
    """Not to be asked of a defense that does not publish this."""
    return lambda component: "" if access in component.publishes else f"it does not publish {access}."


@check("publishes what it declares")
def publishes_what_it_declares(tried: Tried) -> Iterator[str]:
    """Every access in `publishes` and no other, each of its kind."""
    release, declared = tried.release(), tried.component.publishes
    for access in sorted(declared & GIVEN):
        yield f"it declares {access}, which the bench fills in for every defense: take it out of publishes."
    for access in sorted(release.published() - declared):
        yield f"it lets out {access}, which publishes={{...}} does not name: name it there, or leave the field None."
    for access in sorted(declared - release.published() - GIVEN):
        yield f"it declares {access} and lets out none: fill that field of the Release, or take it out of publishes."
    if not isinstance(release.dp_event, DpEvent):
        yield (
            f"spent is a {type(release.dp_event).__name__}, not a dp_accounting.DpEvent: say what was done, as with "
            "bench.dp.accounting.training_event, and the bench computes the epsilon."
        )
    yield from kinds(release)


@check("gives the same release for the same seed")
def same_seed_same_release(tried: Tried) -> Iterator[str]:
    """All of it bit for bit, with other draws in between."""
    release, first = tried.release(), tried.outputs()
    shared = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(3)  # noqa: NPY002 - a component that draws from the global state shows
        random.seed(3)
        mark = global_state()
        again = tried.again()
        drew = global_state() != mark
        second = tried.look(again)
    finally:
        np.random.set_state(shared[0])  # noqa: NPY002
        random.setstate(shared[1])
    if differ := changed(first, second):
        yield f"with one seed {', '.join(differ)} differ{'s' * (len(differ) == 1)} between two trainings: " + (
            "it draws from a global state; draw from np.random.default_rng(seed)."
            if drew
            else "draw everything from `seed`, the initial weights of layers and the order of records too."
        )
    if again.dp_event != release.dp_event:
        yield "with one seed it spends differently in two trainings: let spent follow from its options alone."


def global_state() -> tuple[Any, ...]:
    """What whoever draws without a generator of its own changes."""
    state: Any = np.random.get_state()  # noqa: NPY002
    return state[1].tobytes(), *state[2:], random.getstate()


def changed(first: Mapping[str, Array], second: Mapping[str, Array]) -> list[str]:
    """What is not bit for bit the same in both, by access."""
    differ = (
        key.split()[0]
        for key in [*first, *(second.keys() - first.keys())]
        if key not in first or key not in second or not np.array_equal(first[key], second[key])
    )
    return list(dict.fromkeys(differ))


def movable(seen: Mapping[str, Array]) -> set[str]:
    """All that a seed can move: neither labels, which take turns, nor biases that nobody trained."""
    started = {key for key in seen if key.startswith(("model ", "encode ", "decode ")) and not seen[key].any()}
    return {key for key in seen if not key.endswith(" y")} - started


def unmoved(first: Mapping[str, Array], second: Mapping[str, Array]) -> set[str]:
    """What two seeds have in common of that."""
    return {key for key in movable(first) if np.array_equal(first[key], second[key])}


@check("gives another release for another seed")
def another_seed_another_release(tried: Tried) -> Iterator[str]:
    """Where something is drawn it is drawn from the seed."""
    first, second = tried.outputs("breast_cancer"), tried.outputs("breast_cancer", seed=1)
    if unmoved(first, second) != movable(first):
        return
    if not tried.component.private or reads_nothing(tried.release("breast_cancer")):
        raise Skip("it draws nothing.")
    yield (
        "two seeds give one release bit for bit, so its noise is known to whoever trains it again: "
        "draw the noise from `seed`."
    )


def reads_nothing(release: Release) -> bool:
    """Whether it says that nothing was done to private records."""
    return accounting.claim(release.dp_event, 200)["epsilon"] == 0


@check("leaves the records alone that it is given")
def leaves_its_records_alone(tried: Tried) -> Iterator[str]:
    """In every training until now."""
    tried.release()
    if tried.changed:
        yield "it changed records that it was handed: work on a copy of them."


@check("reads no other records than it is given")
def reads_what_it_is_given(tried: Tried) -> Iterator[str]:
    """No file of records is opened, and no host is asked, in any training until now."""
    tried.release()
    yield from dict.fromkeys(sentence for reach in tried.reached for sentence in reach.wrong())


# predict


def probabilities(given: Any, n: int, classes: int) -> Iterator[str]:
    """What is wrong with the predictions of n records."""
    if not isinstance(given, np.ndarray) or given.shape != (n, classes):
        form = f"shape {given.shape}" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        yield f"predict gave {form} for {n} records: give an array of probabilities, ({n}, {classes})."
        return
    if not np.isfinite(given).all():
        yield "predict gives what are no finite numbers: mind logarithms of 0 and divisions by 0."
    elif (given < 0).any() or not np.allclose(given.sum(1), 1, atol=1e-5):
        yield "predict gives no probabilities (from 0, adding up to 1 for each record): end it with a softmax."


@check("predicts probabilities, of each record by itself", without("predict"))
def predicts_probabilities(tried: Tried) -> Iterator[str]:
    """(n, classes), for no record at all too."""
    predict, data = published(tried.release(), "predict"), small(tried.ground)
    probes, classes = data.holdout.x, data.private.classes
    whole = predict(probes)
    try:
        none = predict(probes[:0])
    except Exception:  # noqa: BLE001 - foreign code fails in any way
        yield "asked about no record at all predict stops: give no answers, (0, classes); a reshape to -1 cannot."
        return
    wrong = [*probabilities(whole, len(probes), classes), *probabilities(none, 0, classes)]
    yield from dict.fromkeys(wrong)
    if not wrong and not all(np.allclose(predict(probes[i:j]), whole[i:j], atol=1e-5) for i, j in ((7, 9), (3, 4))):
        yield "what it predicts of a record depends on those asked with it: use no statistic of a batch."


def published(release: Release, access: str) -> Callable[..., Any]:
    """One access of a release. Raises Skip where it is not there."""
    found = getattr(release, access)
    if not callable(found):
        raise Skip(f"it let out no {access}.")
    function: Callable[..., Any] = found
    return function


# encode, decode, generate


@check("encodes each record by itself", without("encode"))
def encodes_each_record(tried: Tried) -> Iterator[str]:
    """Codes (n, d) of finite numbers."""
    encode, probes = published(tried.release(), "encode"), small(tried.ground).holdout.x
    codes = np.asarray(encode(probes))
    if codes.ndim != 2 or len(codes) != len(probes):
        yield f"encode gave shape {codes.shape} for {len(probes)} records: give codes ({len(probes)}, d)."
    elif not np.isfinite(codes).all():
        yield "encode gives what are no finite numbers: mind divisions by 0."
    elif not np.allclose(encode(probes[7:9]), codes[7:9], atol=1e-5):
        yield "the code of a record depends on those asked with it: use no statistic of a batch."


@check("generates as many as are asked for", without("generate"))
def generates_what_is_asked(tried: Tried) -> Iterator[str]:
    """n records in [0, 1], the same for the same seed."""
    generate, shape = published(tried.release(), "generate"), small(tried.ground).private.shape
    for n in (0, 1, 10, 25):
        made = generate(n, 3)
        if not isinstance(made, Examples):
            yield f"generate gave a {type(made).__name__}: give bench.core.dataset.Examples."
            return
        if made.x.shape != (n, *shape):
            yield f"asked for {n} records, generate gave shape {made.x.shape}: give {(n, *shape)}."
        elif n and not ((made.x >= 0) & (made.x <= 1)).all():
            yield f"generate gives features from {made.x.min():.3g} to {made.x.max():.3g}: keep them in [0, 1]."
        elif not np.array_equal(made.x, generate(n, 3).x):
            yield "generate gives other records each time for one seed: draw from np.random.default_rng(its seed)."
        elif n and np.array_equal(made.x, generate(n, 4).x):
            yield "generate gives the same records for two seeds: draw from np.random.default_rng(its seed)."
        else:
            continue
        return


# Records of any kind


def sound(tried: Tried, release: Release, name: str, where: str) -> Iterator[str]:
    """What is wrong with a release of records like those of `name`."""
    data = small(name)
    seen = tried.look(release, name)
    bad = dict.fromkeys(key.split()[0] for key, array in seen.items() if not np.isfinite(array).all())
    if bad:
        yield f"{', '.join(bad)} hold{'s' * (len(bad) == 1)} what is no finite number {where}: mind divisions by 0."
    elif "predict" in seen:
        yield from probabilities(seen["predict"], len(data.holdout), data.holdout.classes)
    made = release.generate(23, 5) if release.generate else None
    if made is not None and (made.x.shape != (23, *data.private.shape) or made.classes != data.private.classes):
        yield f"generate gave shape {made.x.shape} {where}: give {(23, *data.private.shape)}."


@check("works with two classes and plain features")
def works_on_flat_records(tried: Tried) -> Iterator[str]:
    """Records that are no pictures."""
    with refusable():
        release = tried.release("breast_cancer")
    yield from sound(tried, release, "breast_cancer", "with two classes and plain features")


@check("works with one private record, and where a class has none")
def works_with_few_records(tried: Tried) -> Iterator[str]:
    """Neighbours differ in a record, so how many a class has stops nothing; with five of a class, if one is refused."""
    data = small("breast_cancer")
    own = np.flatnonzero(data.private.y == 1)
    for few in (1, 5):
        try:
            release = tried.train(data.private[own[:few]], data.public)
        except UserError as error:
            if not refusal(error):
                raise
            why = error
        else:
            yield from sound(tried, release, "breast_cancer", f"with {few} private of one class and none of the other")
            return
    raise Skip(f"it refuses such records: {why}")


CHECKS = (
    publishes_what_it_declares, same_seed_same_release, another_seed_another_release,
    predicts_probabilities, encodes_each_record, generates_what_is_asked,
    works_on_flat_records, works_with_few_records,
    leaves_its_records_alone, reads_what_it_is_given,
)  # fmt: skip
