"""The columns of the census income set: their documented values and ranges, and their encoding in [0, 1].

All of it comes from the set's description (adult.names) and the survey behind it, nothing from the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import Attribute

MISSING = "?"
FILE = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
    "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "label",
)  # fmt: skip
"""The columns of the official files, in their order."""

LABELS = ("<=50K", ">50K")
CATEGORIES = {
    "workclass": (
        "Private", "Self-emp-not-inc", "Self-emp-inc", "Federal-gov", "Local-gov", "State-gov", "Without-pay",
        "Never-worked", MISSING,
    ),
    "education": (
        "Bachelors", "Some-college", "11th", "HS-grad", "Prof-school", "Assoc-acdm", "Assoc-voc", "9th", "7th-8th",
        "12th", "Masters", "1st-4th", "10th", "Doctorate", "5th-6th", "Preschool",
    ),
    "marital_status": (
        "Married-civ-spouse", "Divorced", "Never-married", "Separated", "Widowed", "Married-spouse-absent",
        "Married-AF-spouse",
    ),
    "occupation": (
        "Tech-support", "Craft-repair", "Other-service", "Sales", "Exec-managerial", "Prof-specialty",
        "Handlers-cleaners", "Machine-op-inspct", "Adm-clerical", "Farming-fishing", "Transport-moving",
        "Priv-house-serv", "Protective-serv", "Armed-Forces", MISSING,
    ),
    "relationship": ("Wife", "Own-child", "Husband", "Not-in-family", "Other-relative", "Unmarried"),
    "race": ("White", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other", "Black"),
    "sex": ("Female", "Male"),
    "native_country": (
        "United-States", "Cambodia", "England", "Puerto-Rico", "Canada", "Germany", "Outlying-US(Guam-USVI-etc)",
        "India", "Japan", "Greece", "South", "China", "Cuba", "Iran", "Honduras", "Philippines", "Italy", "Poland",
        "Jamaica", "Vietnam", "Mexico", "Portugal", "Ireland", "France", "Dominican-Republic", "Laos", "Ecuador",
        "Taiwan", "Haiti", "Columbia", "Hungary", "Guatemala", "Nicaragua", "Scotland", "Thailand", "Yugoslavia",
        "El-Salvador", "Trinadad&Tobago", "Peru", "Hong", "Holand-Netherlands", MISSING,
    ),
}  # fmt: skip
"""The values of each categorical column, "?" where the set has missing ones: they are a value of their own."""


@dataclass(frozen=True)
class Range:
    """The documented range of a number; log: scaled by its logarithm, because it spans many orders of magnitude."""

    low: float
    high: float
    log: bool = False

    def scale(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Numbers scaled to [0, 1]; values outside of the range are clipped to it."""
        x = np.clip(np.asarray(numbers, np.float64), self.low, self.high)
        if self.log:
            return np.asarray(np.log1p(x - self.low) / np.log1p(self.high - self.low))
        return np.asarray((x - self.low) / (self.high - self.low))


NUMBERS = {
    "age": Range(17, 90),  # the extraction kept ages above 16; the survey records older people as 90
    "hours_per_week": Range(1, 99),  # the extraction kept hours above 0; the survey has two digits for them
    # Dollars: the survey has five digits for them, and records larger amounts as 99999.
    "capital_gain": Range(0, 99_999, log=True),
    "capital_loss": Range(0, 99_999, log=True),
}
"""The numeric features. Left out: fnlwgt, a weight of the sampling design; education_num, which repeats education."""


def encoded(columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Records float32 (n, 106) in [0, 1]: the numbers, then each category one-hot.

    columns: the numbers, and of each category the indices of its values.
    """
    numbers = [scale.scale(columns[name])[:, None] for name, scale in NUMBERS.items()]
    groups = [np.eye(len(values))[columns[name]] for name, values in CATEGORIES.items()]
    return np.asarray(np.concatenate([*numbers, *groups], axis=1), np.float32)


def attributes() -> dict[str, Attribute]:
    """The columns of each category in `encoded`, by name."""
    found, start = {}, len(NUMBERS)
    for name, values in CATEGORIES.items():
        found[name] = Attribute(name, start, start + len(values))
        start += len(values)
    return found
