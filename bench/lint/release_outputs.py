"""Everything that can be seen of a release, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.release import ACCESS, GIVEN, Release

LOOKED_AT = ACCESS - GIVEN  # a test holds that `outputs` knows them all
Arrays = dict[str, NDArray[Any]]


def outputs(release: Release, probes: NDArray[Any], n: int = 23) -> Arrays:
    """What the accesses of a release answer to the records `probes`, and `n` of what is drawn."""
    seen: Arrays = {}
    if release.predict:
        seen["predict"] = release.predict(probes)
    if release.model is not None:
        seen |= _network("model", release.model)
        seen["model answers"] = np.asarray(release.model(np.asarray(probes, np.float32)))
    if release.encode:
        seen |= _network("encode", getattr(release.encode, "model", None))
        seen["encode"] = release.encode(probes)
    if release.decode:
        seen |= _network("decode", getattr(release.decode, "model", None))
        seen["decode"] = release.decode(seen["encode"] if release.encode else _some_codes(release.decode, n))
    if release.generate:
        made = release.generate(n, 5)
        seen |= {"generate x": made.x, "generate y": made.y}
    if release.synthetic is not None:
        seen |= {"synthetic x": release.synthetic.x, "synthetic y": release.synthetic.y}
    if release.join:
        run = release.join(lambda terms: _Idler())
        seen |= {f"join {i}": weights for i, weights in enumerate(run.parameters)}
    if release.updates:
        for k, one in enumerate(release.updates()):
            seen |= {f"updates {k} {i}": weights for i, weights in enumerate(one.received)}
    return seen


def _network(name: str, model: Any) -> Arrays:
    return {f"{name} {i}": weights for i, weights in enumerate(model.get_weights() if model is not None else ())}


def _some_codes(decode: Any, n: int) -> NDArray[Any]:
    """Codes of a decoder without an encoder: draws, and each label in turn."""
    latent = decode.model.input_shape[-1] - decode.labels
    one_hot = np.arange(n)[:, None] % max(decode.labels, 1) == np.arange(decode.labels)
    z = np.random.default_rng(5).standard_normal((n, latent))
    return np.concatenate([z, one_hot], axis=1, dtype=np.float32)


class _Idler:
    """A client that joins and sends back what it hears."""

    def fit(self, parameters: Any, config: Any) -> Any:
        return parameters, 1, {"token": config["token"]}


def differing(a: Arrays, b: Arrays) -> set[str]:
    """The accesses of which two releases differ, be it in a single bit."""
    names = {name for name in a.keys() | b.keys() if name not in a or name not in b or not same(a[name], b[name])}
    return {name.split()[0] for name in names}


def same(a: Any, b: Any) -> bool:
    """Whether two arrays are equal, be they of numbers, among which some are none, or of anything else."""
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
