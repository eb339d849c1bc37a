"""Figures inside stored records: the types and ranges of their parts, and what must hold between them.

Figures stay plain dictionaries, as the games' judges return them: {"value", "low", "high"} and perhaps "se", or
{"not_measurable": why}. Every check raises ValueError with a phrase that completes "it is left out (...)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

WHOLE = 2**53  # up to here every whole number is a float
HUGE = 1e15  # no figure, cost or epsilon of sense is larger
TINY = 1e-9  # what rounding may move
TPR = "tpr_at_fpr_"  # begins the names of rates with counts
RATE = frozenset(
    {"fpr", "fpr_low", "fpr_high", "true_positives", "members", "false_positives", "non_members"}
)  # what a true positive rate brings beside its interval

if TYPE_CHECKING:  # what readers see; msgspec checks the types below
    Count = int
    Number = float
    Seconds = float
    Rate = float
    Probability = float
    Delta = float
    Epsilon = float | str
    Options = Mapping[str, Mapping[str, Any]]
    Versions = Mapping[str, Any]
    Utility = Mapping[str, Any]
    Privacy = Mapping[str, Any]
    Metrics = Mapping[str, Any]
    SecondsByPart = Mapping[str, Any]
    ByName = Mapping[str, dict[str, Any]]
    Parts = Sequence[Mapping[str, Any]]
else:

    def _between(low: float, high: float) -> Any:
        whole = Annotated[int, Meta(ge=int(low), le=int(high))]
        return whole | Annotated[float, Meta(ge=low, le=high)]

    Count = Annotated[int, Meta(ge=0, le=WHOLE)]
    Number = _between(-HUGE, HUGE)
    Seconds = _between(0.0, HUGE)
    Rate = _between(-1.0, 1.0)
    Probability = _between(0.0, 1.0)
    Delta = Annotated[int, Meta(ge=0, le=0)] | Annotated[float, Meta(ge=0.0, lt=1.0)]
    Epsilon = Seconds | Literal["inf"]
    _Scalar = str | bool | None | Number
    Options = dict[str, dict[str, _Scalar | list[_Scalar | list[_Scalar]]]]
    Versions = dict[str, str]
    Utility = dict[str, Count | dict[str, Number | str] | str]
    Privacy = dict[str, Seconds | str | list[str]]
    Metrics = dict[str, str | bool | Number | dict[str, Number | str | list[Count]]]
    SecondsByPart = dict[str, Seconds]
    ByName = dict[str, dict[str, Number | str]]
    Parts = list[dict[str, str | Number | list[Number]]]

_PRIVACY = frozenset({"epsilon", "epsilon_rdp", "epsilon_selected", "delta", "relation", "sampler", "public_knowledge"})
_NUMBERS = (int, float)


def same_keys(what: str, values: Mapping[str, Any], keys: AbstractSet[str]) -> None:
    """Raise ValueError unless a mapping has exactly these keys."""
    if values.keys() != keys:
        wrong = ", ".join(sorted(values.keys() ^ keys))
        raise ValueError(f"{what} must hold exactly {', '.join(sorted(keys))}; wrong: {wrong}")


def check_utility(utility: Mapping[str, Any]) -> None:
    """Check an accuracy with the number of records that it is of, or why there is none."""
    if "not_measurable" in utility:
        check_figure("utility", utility)
        return
    same_keys("utility", utility, {"accuracy", "n"})
    if type(utility["accuracy"]) is not dict or type(utility["n"]) is not int:
        raise ValueError("utility is no accuracy of n records")
    check_figure("accuracy", utility["accuracy"])


def check_privacy(privacy: Mapping[str, Any]) -> None:
    """Check the claim: three epsilons, a delta, and what they rest on."""
    same_keys("privacy", privacy, _PRIVACY)
    for name in ("epsilon", "epsilon_rdp", "epsilon_selected"):
        if privacy[name] != "inf" and type(privacy[name]) not in _NUMBERS:
            raise ValueError(f"{name} is neither a number nor 'inf'")
    if type(privacy["delta"]) not in _NUMBERS or not 0 <= privacy["delta"] < 1:
        raise ValueError(f"delta is {privacy['delta']!r}, not from 0 to below 1")
    if type(privacy["relation"]) is not str or type(privacy["sampler"]) is not str:
        raise ValueError("relation or sampler is no sentence")
    if type(privacy["public_knowledge"]) is not list:
        raise ValueError("public_knowledge is no list of sentences")


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Check every figure of a game's judge, the ROC curve, and that the headline is one of the figures."""
    headline, chance = metrics.get("headline"), metrics.get("chance")
    if (
        not isinstance(headline, str)
        or not isinstance(chance, _NUMBERS)
        or type(chance) is bool
        or not -1 <= chance <= 1
    ):
        raise ValueError("metrics do not say which of them is the headline, or what it is by chance")
    for name, one in metrics.items():
        if type(one) is dict:
            if name == "roc":
                _check_roc(one, metrics)
            else:
                check_figure(name, one)
    for name in (headline, "gain", "baseline"):
        if type(metrics.get(name)) is not dict or name == "roc":
            raise ValueError(f"{name} is neither a figure with its interval nor not_measurable")


def check_figure(name: str, figure: Mapping[str, Any]) -> None:
    """Check a share or a difference of shares with its 95 % interval, or why it was not measured."""
    if "not_measurable" in figure:
        if len(figure) > 1 or type(figure["not_measurable"]) is not str:
            raise ValueError(f"{name} is at once measured and not_measurable, or does not say why")
        return
    try:
        value, low, high = figure["value"], figure["low"], figure["high"]
        fits = -1 - TINY <= low <= value + TINY <= high + 2 * TINY <= 1 + 3 * TINY and 0 <= figure.get("se", 0) <= 2
    except KeyError:
        raise ValueError(f"{name} is neither a figure with its interval nor not_measurable") from None
    except TypeError:
        raise ValueError(f"{name} holds a word or a list in place of a number") from None
    if not fits:
        raise ValueError(f"{name} is {value} in [{low}, {high}], which is no share inside of its interval")
    if len(figure) > 4 or name.startswith(TPR):
        _check_rate(name, figure)


def check_measured(name: str, figure: Mapping[str, Any]) -> None:
    """Check a figure that must have been measured."""
    if "not_measurable" in figure:
        raise ValueError(f"{name} was not measured")
    check_figure(name, figure)


def _check_rate(name: str, figure: Mapping[str, Any]) -> None:
    """Check that a true positive rate has its counts and is their quotient, as is its false positive rate."""
    if not figure.keys() >= RATE:
        raise ValueError(f"{name} lacks {', '.join(sorted(RATE - figure.keys()))}")
    hits, members, alarms, others = (
        figure[part] for part in ("true_positives", "members", "false_positives", "non_members")
    )
    if not all(type(count) is int and count >= 0 for count in (hits, members, alarms, others)) or not members * others:
        raise ValueError(f"{name} holds a count that is none")
    fpr, low, high = figure["fpr"], figure["fpr_low"], figure["fpr_high"]
    if not all(type(one) in _NUMBERS for one in (fpr, low, high)) or not 0 <= low <= fpr + TINY <= high + 2 * TINY:
        raise ValueError(f"{name} has a false positive rate outside of its interval")
    if high > 1 or abs(figure["value"] - hits / members) > TINY or abs(fpr - alarms / others) > TINY:
        raise ValueError(f"{name} is not what its counts say")


def _check_roc(roc: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Check the counts of false and true positives as the threshold falls: of equal length, never falling."""
    fp, tp = roc.get("fp"), roc.get("tp")
    if type(fp) is not list or type(tp) is not list or len(roc) != 2 or not len(fp) == len(tp) > 0:
        raise ValueError("roc does not hold the counts fp and tp, as many of one as of the other")
    if fp != sorted(fp) or tp != sorted(tp):
        raise ValueError("a count of roc falls as the threshold does")
    members, others = metrics.get("members"), metrics.get("non_members")
    if type(members) is not int or type(others) is not int or members < max(1, tp[-1]) or others < max(1, fp[-1]):
        raise ValueError("roc counts more than there are members and non_members")


def check_bound(name: str, bound: Mapping[str, Any]) -> None:
    """Check a lower bound on epsilon beside the one of a perfect attack, or why there is none."""
    if "not_measurable" in bound:
        check_figure(name, bound)
        return
    same_keys(name, bound, {"value", "most"})
    value, most = bound["value"], bound["most"]
    if type(value) not in _NUMBERS or type(most) not in _NUMBERS or not 0 <= value <= most + TINY:
        raise ValueError(f"{name} proves {value!r} of at most {most!r}")


def check_part(part: Mapping[str, Any], shared: int) -> None:
    """Check what one part of an audit tried: a sentence, and of one step the least mu with its noise multiplier."""
    if type(part.get("what")) is not str:
        raise ValueError("a part does not say what was tried")
    if not all(type(value) in _NUMBERS for name, value in part.items() if name not in ("what", "mu")):
        raise ValueError("a part of it holds a word or a list in place of a number")
    if "mu" in part:
        mu, noise = part["mu"], part.get("noise_multiplier")
        if type(mu) is not list or len(mu) != shared or not all(type(one) in _NUMBERS and one >= 0 for one in mu):
            raise ValueError("the mu of a part is not one number for each sharing of the error")
        if not isinstance(noise, _NUMBERS) or noise <= 0:
            raise ValueError("a part with mu lacks its noise multiplier")
