"""Values of jax_privacy's CanaryScoreAuditor for the scores below, which `tests/audit/test_bounds.py` compares with.

    python3.11 -m venv /tmp/jp && /tmp/jp/bin/pip install jax-privacy==2.0.0
    /tmp/jp/bin/python tests/audit/peers.py > tests/audit/peers.json

Only what both define: one threshold that was known beforehand, and the few that scores of two values have.
"""

from __future__ import annotations

import itertools
import json
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

DELTAS, SIGNIFICANCES = (1e-12, 1e-5, 1e-3), (0.05, 0.01)
Sides = tuple[NDArray[Any], NDArray[Any]]


def cases() -> dict[str, Sides]:
    """Scores of members and non-members, exact in binary, so that they do not depend on the generator."""
    low = (np.arange(400) * 151 % 400) / 512
    return {
        "shifted": (low[:300] + 0.125, low[100:]),
        "uneven": (low + 0.25, low[:90]),
        "apart": (low[:100] + 1, low[:100]),
        "labels": (np.repeat([1.0, 0.0], [260, 40]), np.repeat([1.0, 0.0], [70, 180])),
    }


def thresholds(name: str) -> tuple[float, ...]:
    """The thresholds of a case: scores of at least t are classified as members."""
    return (0.5,) if name == "labels" else (0.125, 0.5, 0.75, 1.0)


def main() -> None:
    """Print the values as JSON."""
    from jax_privacy.auditing import CanaryScoreAuditor, Explicit

    found: dict[str, Any] = {"jax_privacy": version("jax_privacy"), "auc": {}, "bonferroni": [], "gaussian_dp": []}
    found |= {"clopper_pearson": [], "one_run": []}
    for name, sides in cases().items():
        auditor = CanaryScoreAuditor(*sides)
        for t, delta, alpha in itertools.product(thresholds(name), DELTAS, SIGNIFICANCES):
            arguments = [name, t, delta, alpha]
            one = {"threshold_strategy": Explicit(t)}
            both = auditor.epsilon_clopper_pearson(alpha, delta, one_sided=False, **one)
            found["clopper_pearson"].append([*arguments, float(both)])
            found["one_run"].append([*arguments, float(auditor.epsilon_one_run(alpha, delta, **one))])
        if name in ("labels", "apart"):  # elsewhere jax_privacy gives the area under the convex hull
            found["auc"][name] = float(auditor.attack_auroc())
    auditor = CanaryScoreAuditor(*cases()["labels"])
    for delta, alpha in itertools.product(DELTAS, SIGNIFICANCES):
        found["bonferroni"].append([delta, alpha, float(auditor.epsilon_clopper_pearson(alpha, delta))])
        found["gaussian_dp"].append([delta, alpha, float(auditor.epsilon_from_gdp(alpha, delta, eps_tol=1e-12))])
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    print("{", ",\n".join(lines), "}", sep="\n")


if __name__ == "__main__":
    main()
