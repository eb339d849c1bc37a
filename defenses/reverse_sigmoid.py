"""The reverse sigmoid, a perturbation of confidences against model stealing (Lee et al. 2018)."""

from __future__ import annotations

import math
import warnings
from typing import Annotated

from bench.core.component import Option, defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.models.classifier import CLASSIFIER_STEPS
from bench.models.output_perturbation import answering


@defense("reverse_sigmoid", publishes={"predict"})
def reverse_sigmoid(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    beta: Annotated[float, Option("size of the perturbation of a confidence", above=0, below=math.inf)] = 1.0,
    gamma: Annotated[
        float, Option("how steeply it changes with the logit of a confidence", above=0, below=math.inf)
    ] = 0.1,
    steps: Annotated[int, CLASSIFIER_STEPS] = 1500,
) -> Release:
    """The undefended classifier, its confidences perturbed by ART's ReverseSigmoid, a function that is not monotone."""
    if not (0 < beta < math.inf and 0 < gamma < math.inf):
        raise UserError(f"beta and gamma must be numbers above 0, not {beta:g} and {gamma:g}.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for what is used here
        from art.defences.postprocessor import ReverseSigmoid

    return answering(private, seed, ReverseSigmoid(beta=beta, gamma=gamma), "reverse_sigmoid: classifier", steps=steps)
