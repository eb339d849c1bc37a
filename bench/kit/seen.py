"""Everything that can be seen of a release, as arrays; and the options that make a training short."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.component import Component
from bench.data import Examples
from bench.release import Release

QUICK = {
    "steps": 4, "classifier_steps": 4, "samples": 40, "classifier_samples": 40,
    "rounds": 2, "local_steps": 2, "encoder_steps": 4,
}  # fmt: skip


def quick(component: Component, **changed: Any) -> dict[str, Any]:
    """Options that make a component's training short, where it has them, and `changed`."""
    return {name: value for name, value in {**QUICK, **changed}.items() if name in component.options}


def outputs(release: Release, probes: NDArray[Any], n: int = 23) -> dict[str, NDArray[Any]]:
    """Everything that can be seen of a release, as arrays."""
    seen: dict[str, NDArray[Any]] = {}
    if release.predict:
        seen["predict"] = release.predict(probes)
    if release.model is not None:
        seen |= {f"model {i}": weights for i, weights in enumerate(release.model.get_weights())}
    if release.encode:
        seen["encode"] = release.encode(probes)
    if release.decode:
        seen["decode"] = release.decode(seen["encode"] if release.encode else some_codes(release.decode, n))
    if release.generate:
        made = release.generate(n, 5)
        seen |= {"generate x": made.x, "generate y": made.y}
    if release.synthetic is not None:
        seen |= {"synthetic x": release.synthetic.x, "synthetic y": release.synthetic.y}
    if release.join:
        run = release.join(lambda terms: Idler())
        seen |= {f"join {i}": weights for i, weights in enumerate(run.parameters)}
    if release.updates:
        first = next(iter(release.updates()))
        seen |= {f"updates {i}": weights for i, weights in enumerate(first.received)}
    return seen


def some_codes(decode: Any, n: int) -> NDArray[Any]:
    """Codes of a decoder without an encoder: draws, and each label in turn."""
    latent = decode.model.input_shape[-1] - decode.labels
    one_hot = np.arange(n)[:, None] % max(decode.labels, 1) == np.arange(decode.labels)
    z = np.random.default_rng(5).standard_normal((n, latent))
    return np.concatenate([z, one_hot], axis=1, dtype=np.float32)


class Idler:
    """A client that joins and sends back what it hears."""

    def fit(self, parameters: Any, config: Any) -> Any:
        """What it was sent, as its update."""
        return parameters, 1, {"token": config["token"]}


def other_records(examples: Examples, seed: int = 1) -> Examples:
    """As many records that share nothing with these: other values, another scale, other counts, the last class gone."""
    rng = np.random.default_rng(seed)
    y = np.minimum(*rng.integers(0, examples.classes - 1, (2, len(examples))))
    return Examples(0.1 * rng.random(examples.x.shape, np.float32), y, examples.classes)
