"""The card of a data set, read from its docstring: where it comes from, who may use it, how large it is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from bench.core.component import Component

FIELDS = ("Source", "Licence", "Size", "Assumed public", "Citation")
"""The fields of a card; each starts a line `Field: text` of the docstring and goes on until the next field."""


def card(component: Component) -> Mapping[str, str]:
    """The fields of a data set's card in their order; one that its docstring lacks is empty.

    In the docstring, because that decides no number: a corrected card makes no stored cell stale.
    """
    _, *parts = _parts(component)
    found = dict(zip(parts[0::2], parts[1::2], strict=True))
    return {name: " ".join(found.get(name, "").partition("\n\n")[0].split()) for name in FIELDS}


def prose(component: Component) -> str:
    """The docstring of a component without its first line and without the fields of a card."""
    return _parts(component)[0].partition("\n")[2].strip()


def _parts(component: Component) -> list[str]:
    """What stands before the first field, then each field's name and text in turn."""
    return re.split(rf"^({'|'.join(FIELDS)}):", inspect.getdoc(component.function) or "", flags=re.MULTILINE)
