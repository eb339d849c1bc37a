"""Everything that a defense lets out. The field names are the vocabulary of access."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bench.core.dataset import Examples

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Map = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Release:
    """What is published; a field that stays inside is None.

    predict: records (n, *shape) -> class probabilities (n, classes): black box.
    model: the Keras model behind it, records to logits: white box. Where `encode` is out too, it is
        Sequential([encoder, classifier of codes]).
    encode, decode: records -> codes (n, d), codes -> records; each a `bench.dp.networks.Published`, whose Keras
        model is out.
    generate: (n, seed) -> Examples, as many synthetic records as one likes.
    synthetic: a fixed synthetic set.
    join: (function of bench.federated.Terms -> Client, ...) -> Run: the whole protocol of collaborative training with
        those clients beside the honest ones; they receive the global model in each round and send what they like.
    updates: () -> iterable of bench.federated.Seen: what the server of the honest run sees, client by client and round
        by round, computed as it is asked for. `dp_event` covers one run of the protocol, this one or one that was
        joined.
    retrain: (private Examples, seed, public Examples or None for those of the release) -> Release, the public
        procedure on the attacker's own records, for shadow models; the bench fills it in for every defense.
    spent: what was done to the private records, as a DpEvent (never an epsilon: the bench computes that).
    """

    dp_event: DpEvent
    predict: Map | None = None
    model: Any | None = None
    encode: Map | None = None
    decode: Map | None = None
    generate: Callable[[int, int], Examples] | None = None
    synthetic: Examples | None = None
    join: Callable[..., Any] | None = None
    updates: Callable[..., Any] | None = None
    retrain: Callable[[Examples, int, Examples | None], Release] | None = None

    def published(self) -> frozenset[str]:
        """The names of the fields that are let out."""
        return frozenset(name for name in ACCESS if getattr(self, name) is not None)

    def only(self, names: Iterable[str]) -> Release:
        """The same release with every other access hidden: the threat model, enforced."""
        return Release(self.dp_event, **{name: getattr(self, name) for name in names})


ACCESS = frozenset(field.name for field in fields(Release)) - {"dp_event"}
GIVEN = frozenset({"retrain"})  # what the bench fills in for every defense
