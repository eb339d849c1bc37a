"""The files of a release: synthetic records, weights, and the card that states what they promise."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import __version__
from bench.core.component import Choice, text
from bench.core.dataset import Examples
from bench.core.markdown import table
from bench.core.notices import UNSEEDED
from bench.core.release import Release
from bench.dp.accounting import RELATION
from bench.store.freshness import spell

NETWORKS = ("model", "encode", "decode")
FILES = frozenset({"synthetic", *NETWORKS})  # the accesses that can be written
# Layers that Keras builds from numbers and words alone. A Lambda's configuration holds code, which is not safe to load.
PLAIN = {"InputLayer", "Dense", "Conv2D", "MaxPooling2D", "Reshape", "Flatten", "Activation", "Rescaling"}
ABSENT = (
    "No attack was played on it: what an attack finds is a statistic of the private records that epsilon does not "
    "cover. The leaderboard measures the same mechanism with seeded noise (`bench run` with the same defense and data)."
)
LIMITS = (
    "This card covers this release alone: every further release of the same records spends its epsilon once more.",
    "Noise is stretched from 256 bits of the system's entropy by BLAKE2b into streams of 63 bits, and these by the "
    "generators of NumPy and TensorFlow, which are not cryptographic; and it is floating-point noise, whose last bits "
    "are not those of a Gaussian.",
    "Options were chosen by hand, which no epsilon covers unless they were fixed before anybody saw the records.",
)


@dataclass(frozen=True)
class Made:
    """What the card states beside the files. sizes: of the parts, None where the number of records is private."""

    data: str
    options: Mapping[str, Mapping[str, Any]]
    defense: Choice
    sizes: Mapping[str, int] | None
    claim: Mapping[str, float]
    sampler: str
    split: int
    versions: Mapping[str, str]
    date: str


def contents(found: Release) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a release, and for each network how its layers are made."""
    files, networks = {}, {}
    if found.synthetic is not None:
        files["synthetic.npz"] = _npz({"x": found.synthetic.x, "y": found.synthetic.y})
        files["synthetic.csv"] = _csv(found.synthetic)
    for name in NETWORKS:
        if (published := getattr(found, name)) is not None:
            network = getattr(published, "model", published)
            weights = network.get_weights()
            files[f"{name}.npz"] = _npz({f"w{i}": array for i, array in enumerate(weights)})
            networks[name] = {"layers": [*map(_described, _leaves(network))], "keras": _config(network)}
    return files, networks


def _npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(array) for name, array in arrays.items()})
    return buffer.getvalue()


def _csv(records: Examples) -> bytes:
    flat = records.x.reshape(len(records), -1)
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow([*(f"x{i}" for i in range(flat.shape[1])), "y"])
    # nine digits give back every 32-bit float
    lines.writerows([*(f"{v:.9g}" for v in row), label] for row, label in zip(flat, records.y.tolist(), strict=True))
    return out.getvalue().encode()


def _leaves(network: Any) -> Iterator[Any]:
    """The layers of a network and of the networks within, in the order of their weights."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        else:
            yield layer


def _described(layer: Any) -> str:
    shapes = ", ".join("x".join(map(str, weight.shape)) for weight in layer.weights)
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    words = [type(layer).__name__, "" if activation == "linear" else activation, shapes and f"weights {shapes}"]
    return " ".join(filter(None, words))


def _config(network: Any) -> dict[str, Any] | None:
    """The configuration that Keras builds the network from, without initializers, where it is data alone."""
    kinds = {type(layer) for layer in _leaves(network)}
    if any(kind.__name__ not in PLAIN or not kind.__module__.startswith("keras.") for kind in kinds):
        return None
    written = network.to_json()
    return None if "lambda" in written.lower() else dict(_plain(json.loads(written)))


def _plain(config: Any) -> Any:
    """Without initializers: they tell nothing of a trained network, and may hold the seed that they drew from."""
    if isinstance(config, Mapping):
        if config.get("class_name") == "__numpy__":  # Keras writes arrays so, and its JSON reader cannot read them
            return config["config"]["value"]
        kept = (key for key in config if not (key.endswith("initializer") or "seed" in key))
        return {key: _plain(config[key]) for key in kept}
    return [_plain(value) for value in config] if isinstance(config, list) else config


def card(made: Made, files: Mapping[str, bytes], networks: Mapping[str, Any]) -> dict[str, bytes]:
    """card.json and, last, card.md."""
    component = made.defense.component
    hidden = sorted(component.publishes - FILES)
    values = {
        "defense": made.defense.label,
        "data": made.data,
        "options": {kind: {k: spell(v) for k, v in options.items()} for kind, options in made.options.items()},
        "sizes": made.sizes,
        "claim": {**{key: made.claim[key] for key in ("epsilon", "epsilon_rdp", "delta")}, "relation": RELATION,
                  "sampler": made.sampler},
        "public_knowledge": list(component.public_knowledge),
        "noise": UNSEEDED,
        "split": f"public, by seed {made.split} of `bench run`",
        "linter": "passed: the probes of bench.lint.linter found nothing",
        "files": sorted(files),
        "published_without_file": hidden,
        "networks": networks,
        "attacks": ABSENT,
        "limits": list(LIMITS),
        "versions": {"dp-generative-bench": __version__, **made.versions},
        "date": made.date,
    }  # fmt: skip
    data = json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    return {"card.json": data, "card.md": _words(values, made).encode()}


def _words(values: Mapping[str, Any], made: Made) -> str:
    up = {key: f"{math.ceil(made.claim[key] * 1e4) / 1e4:.4f}" for key in ("epsilon", "epsilon_rdp")}
    claim = {**values["claim"], **up}  # rounded up: nothing is promised that does not hold
    sizes: Mapping[str, Any] = made.sizes or {"private": "not stated: the defense does not take it for public"}
    options = {kind: ", ".join(f"{k}={text(v)}" for k, v in made.options[kind].items()) for kind in made.options}
    files = [f"- {name}: {_about(name, values['networks'])}" for name in values["files"]]
    hidden = values["published_without_file"]
    lines = [
        f"# {values['defense']} on {values['data']}", "",
        f"{made.defense.component.summary} Released {made.date}.", "",
        f"**{UNSEEDED}**", "",
        "## What it claims", "", *table(list(claim), [[str(value) for value in claim.values()]]), "",
        f"- Assumed public: {'; '.join(values['public_knowledge']) or 'nothing'}.",
        f"- Linter {values['linter']}.",
        *(f"- {line}" for line in LIMITS), "",
        "## What is here", "", *files,
        *([f"- Published too, but no file holds it: {', '.join(hidden)}."] if hidden else []), "",
        "## How it was made", "",
        f"- Defense: {made.defense.name} ({options['defense'] or 'no options'}).",
        f"- Records: {values['data']} ({options['data'] or 'no options'}); "
        f"{', '.join(f'{name} {size}' for name, size in sizes.items())}.",
        f"- Which records are private, held out or public is {values['split']}: the noise alone is secret.",
        f"- Versions: {', '.join(f'{name} {one}' for name, one in values['versions'].items())}.", "",
        "## What was not done", "", ABSENT, "",
    ]  # fmt: skip
    return "\n".join(lines)


def _about(name: str, networks: Mapping[str, Any]) -> str:
    stem, _, kind = name.partition(".")
    if stem == "synthetic":
        return "synthetic records, `x` and `y`" if kind == "npz" else "the same, one line per record"
    how = (
        "card.json has the Keras configuration"
        if networks[stem]["keras"]
        else ("its fixed layers need code, so there is no configuration; bench builds it from the options below")
    )
    return f"weights of `{stem}`, w0, w1, ... in Keras' order ({'; '.join(networks[stem]['layers'])}); {how}"
