"""The options that all data sets share: how many records each part holds."""

from __future__ import annotations

from bench.core.component import Option

PRIVATE = Option("private records: a defense trains on them, and attacks ask about them", at_least=1)
HOLDOUT = Option("holdout records: no defense sees them, and attacks must tell them from the private ones", at_least=1)
PUBLIC = Option("public records: defenses and attacks may use them", at_least=1)
