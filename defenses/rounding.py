"""Confidences are rounded before they are published (Fredrikson et al. 2015, section 6)."""

from __future__ import annotations

import warnings
from typing import Annotated

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.models.classifier import CLASSIFIER_STEPS
from bench.models.output_perturbation import answering


@defense("rounding", publishes={"predict"})
def rounding(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    digits: Annotated[int, Option("decimals that a confidence keeps", at_least=1)] = 1,
    steps: Annotated[int, CLASSIFIER_STEPS] = 1500,
) -> Release:
    """The undefended classifier, its confidences rounded to `digits` decimals (by ART) and scaled to a sum of 1."""
    if digits < 1:
        raise UserError(f"digits must be at least 1, not {digits}; the defense top1 publishes the label alone.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for what is used here
        from art.defences.postprocessor import Rounded

    return answering(private, seed, Rounded(decimals=digits), "rounding: classifier", steps=steps)
