"""The encoder that DP-AuGM publishes (Chen et al. 2018, section 4.1), trained on private records or never trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from numpy.typing import NDArray

from bench import accounting, nets
from bench.data import Examples
from bench.engine import build
from bench.errors import UserError, nearest
from bench.nets import Autoencoder, Published
from bench.randomness import derive, stream
from bench.training import Recipe, train

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Kind = Literal["dp", "random"]


def encoder(
    kind: str, recipe: Recipe, private: Examples, seed: int, what: str
) -> tuple[Published, DpEvent]:
    """The encoder half of an autoencoder: "dp" trains it as `recipe` says, "random" leaves it as it starts.

    Records (n, *shape) to codes (n, code), and what it cost the private records.
    """
    if kind not in get_args(Kind):
        raise UserError(f"there is no encoder {kind!r}: {nearest(kind, get_args(Kind))}")
    net, own = recipe.net, derive(seed, "autoencoder")
    assert isinstance(net, Autoencoder)
    if kind == "random":
        weights, spent = build(net, [stream(own, "start")]).get_weights(), accounting.no_access()
    else:
        [fit] = train(recipe, [private], [own], what)
        weights, spent = fit.weights, fit.spent
    half, _ = nets.halves(net, weights)
    return nets.published(half), spent


def spread(encode: Published, public: Examples) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation (code,) of the codes of public records.

    A noisy encoder can squeeze its codes into a narrow range, from which no network learns; what it takes to spread
    them out again is public.
    """
    codes = encode(public.x)
    return codes.mean(0), codes.std(0) + 1e-6
