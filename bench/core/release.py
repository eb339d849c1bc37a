"""Everything that a defense publishes. The field names are the names of the accesses."""

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
    """What is published; a field that is not published is None.

    predict: records (n, *shape) -> class probabilities (n, classes): black box.
    model: the Keras model behind it, records to logits: white box. Where `encode` is published too, it is
        Sequential([encoder, classifier of embeddings]).
    encode, decode: records -> embeddings (n, d), latent codes -> records; each a `bench.dp.networks.Published`, whose
        Keras model is published.
    generate: (n, seed) -> Examples, n synthetic records.
    synthetic: a fixed synthetic set.
    join: (function from Terms to Client, ...) -> Run, of bench.models.federated.protocol: the complete protocol of
        federated learning with those clients beside the honest ones; they receive the global model in each round and
        send any update.
    updates: () -> iterable of bench.models.federated.protocol.Seen: what the server of the honest run sees, client by
        client and round by round, computed lazily. `dp_event` covers one run of the protocol, this one or a joined one.
    retrain: (private Examples, seed, public Examples or None for those of the release) -> Release, the public
        procedure on the attacker's records, for shadow models; the bench fills it in for every defense.
    dp_event: what was done to the private records, as a DpEvent (never an epsilon: the bench computes that).
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
        """The names of the fields that are published."""
        return frozenset(name for name in ACCESS if getattr(self, name) is not None)

    def only(self, names: Iterable[str]) -> Release:
        """The same release with every other access hidden, which enforces the threat model."""
        return Release(self.dp_event, **{name: getattr(self, name) for name in names})


ACCESS = frozenset(field.name for field in fields(Release)) - {"dp_event"}
GIVEN = frozenset({"retrain"})  # what the bench fills in for every defense
