"""A health survey: insurance plans, health, and how often people went to a doctor."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated

import numpy as np

from bench.core.component import Option, dataset
from bench.core.dataset import Attribute, DataLocation, Examples, Split, first, split
from bench.core.errors import UserError, suggest
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC

# SHA-256 of the records that statsmodels ships, as float32
CONTENT = "01a7d603b3ab1b49d139f94753fab9d25be1a9d5a5b43d8c77eac0c8f5940692"
VISITS = (1, 3)  # none; one or two; three or more
# Survey features are scaled by their documented ranges, never by the observed records: a coinsurance of 0 to 100 %; an
# expenditure of at most 1,000 dollars over a coinsurance of at least 25 %; of the incentive only that it stayed below
# 10,000 dollars, which matters little on its logarithmic scale; shares of limitations and, in per cent, of diseases.
RANGES = {
    "lncoins": np.log(101), "lpi": np.log(10_000), "fmde": np.log(1000 / 0.25), "physlm": 1.0, "disea": 100.0,
}  # fmt: skip
HEALTH = ("hlthg", "hlthf", "hlthp")  # good, fair, poor; excellent where none of them
ATTRIBUTES = {
    "health": Attribute("health", len(RANGES), len(RANGES) + 4),
    "individual_plan": Attribute("individual_plan", len(RANGES) + 4, len(RANGES) + 5),
}


@dataset("randhie", has={"attributes"}, records=2_760)
def randhie(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 800,
    holdout: Annotated[int, HOLDOUT] = 1350,
    public: Annotated[int, PUBLIC] = 610,
    attribute: Annotated[str, Option("what attribute inference asks about", one_of=tuple(ATTRIBUTES))] = "health",
) -> Split:
    """RAND Health Insurance Experiment, 10 features, 3 classes, 2,760 distinct of 20,190 records, in statsmodels.

    The label is how often a person saw a doctor in a year: not at all, once or twice, or more often. (Most people did
    at least once, and no feature predicts who did not.) Of records with equal features the first one stays.
    attribute: the target of attribute inference, health (self-rated, 4 values) or individual_plan.
    Source: RAND Corporation, 1974 to 1982, as shipped with statsmodels (a part of the set of Cameron and Trivedi).
    Licence: public domain, says statsmodels.
    Size: 20,190 records, of which 2,760 are distinct, 10 features, 3 classes. A record is a person's year: one person
    may be in several, which no column tells apart, and an epsilon covers one record.
    Assumed public: the limits of the experiment's plans, that an incentive stays below 10,000 dollars, and that
    limitations and diseases are shares; nothing is read off the records.
    Citation: J. Newhouse and the Insurance Experiment Group, Free for All?, Harvard University Press, 1993;
    A. C. Cameron, P. K. Trivedi, Microeconometrics: Methods and Applications, Cambridge University Press, 2005.
    """
    if attribute not in ATTRIBUTES:
        raise UserError(f"randhie has no attribute {attribute!r}: {suggest(attribute, ATTRIBUTES)}")
    from statsmodels.datasets import randhie as shipped

    raw = shipped.load_pandas().data
    if hashlib.sha256(np.ascontiguousarray(raw.to_numpy(np.float32)).tobytes()).hexdigest() != CONTENT:
        raise UserError("statsmodels ships another randhie than the one known here: install statsmodels 0.14 or 0.15.")
    numbers = [np.clip(raw[name].to_numpy(np.float64) / high, 0, 1) for name, high in RANGES.items()]
    health = [raw[name].to_numpy(np.float64) for name in HEALTH]
    x = np.stack([*numbers, 1 - sum(health), *health, raw["idp"].to_numpy(np.float64)], axis=1)
    records = Examples(x, np.digitize(raw["mdvis"].to_numpy(), VISITS), classes=len(VISITS) + 1)
    data = split("randhie", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=first(attribute, ATTRIBUTES))
