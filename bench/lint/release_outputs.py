"""Every output of a release, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.release import ACCESS, GIVEN, Release

INSPECTED = ACCESS - GIVEN  # a test checks that `outputs` covers them all
Arrays = dict[str, NDArray[Any]]


def outputs(release: Release, queries: NDArray[Any], n: int = 23) -> Arrays:
    """The outputs of all accesses for the records `queries` (n, *shape), and `n` generated records."""
    found: Arrays = {}
    if release.predict:
        found["predict"] = release.predict(queries)
    if release.model is not None:
        found |= _network("model", release.model)
        found["model answers"] = np.asarray(release.model(np.asarray(queries, np.float32)))
    if release.encode:
        found |= _network("encode", getattr(release.encode, "model", None))
        found["encode"] = release.encode(queries)
    if release.decode:
        found |= _network("decode", getattr(release.decode, "model", None))
        found["decode"] = release.decode(found["encode"] if release.encode else _latent_codes(release.decode, n))
    if release.generate:
        made = release.generate(n, 5)
        found |= {"generate x": made.x, "generate y": made.y}
    if release.synthetic is not None:
        found |= {"synthetic x": release.synthetic.x, "synthetic y": release.synthetic.y}
    if release.join:
        run = release.join(lambda terms: _EchoClient())
        found |= {f"join {i}": weights for i, weights in enumerate(run.parameters)}
    if release.updates:
        for k, one in enumerate(release.updates()):
            found |= {f"updates {k} {i}": weights for i, weights in enumerate(one.received)}
    return found


def _network(name: str, model: Any) -> Arrays:
    return {f"{name} {i}": weights for i, weights in enumerate(model.get_weights() if model is not None else ())}


def _latent_codes(decode: Any, n: int) -> NDArray[Any]:
    """Inputs for a decoder without an encoder: normal draws, and each label in turn."""
    latent = decode.model.input_shape[-1] - decode.labels
    one_hot = np.arange(n)[:, None] % max(decode.labels, 1) == np.arange(decode.labels)
    z = np.random.default_rng(5).standard_normal((n, latent))
    return np.concatenate([z, one_hot], axis=1, dtype=np.float32)


class _EchoClient:
    """A client of collaborative training that returns the parameters it receives."""

    def fit(self, parameters: Any, config: Any) -> Any:
        return parameters, 1, {"token": config["token"]}


def differing(a: Arrays, b: Arrays) -> set[str]:
    """The accesses in which two releases are not bit-identical."""
    names = {name for name in a.keys() | b.keys() if name not in a or name not in b or not equal(a[name], b[name])}
    return {name.split()[0] for name in names}


def equal(a: Any, b: Any) -> bool:
    """Whether two arrays of any type are equal; NaN equals NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
