"""What a data set says about itself, read off its docstring: where it comes from, who may use it, how large it is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from bench.core.component import Component

FIELDS = ("Source", "Licence", "Size", "Assumed public", "Citation")
"""The fields of a card; each is a line `Field: words` of the docstring, which goes on until the next field."""


def card(component: Component) -> Mapping[str, str]:
    """The fields of a data set's card in their order; one that its docstring lacks is empty.

    In the docstring, because that decides no number: a corrected card makes no stored cell stale.
    """
    text = inspect.getdoc(component.function) or ""
    starts = rf"^({'|'.join(FIELDS)}):"
    parts = re.split(starts, text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {name: " ".join(found.get(name, "").partition("\n\n")[0].split()) for name in FIELDS}
