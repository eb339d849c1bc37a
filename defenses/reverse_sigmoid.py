"""The reverse sigmoid, a perturbation of confidences against model stealing (Lee et al. 2018)."""

from __future__ import annotations

import warnings

from bench.core.component import defense
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.models.output_perturbation import answering


@defense("reverse_sigmoid", publishes={"predict"})
def reverse_sigmoid(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    beta: float = 1.0,
    gamma: float = 0.1,
    steps: int = 1500,
) -> Release:
    """The undefended classifier, its confidences perturbed by ART's ReverseSigmoid: far ones come to look near.

    beta: how much is taken off or put on; gamma: how steeply it changes with the logit of a confidence.
    """
    if not (0 < beta < float("inf") and 0 < gamma < float("inf")):
        raise UserError(f"beta and gamma must be numbers above 0, not {beta:g} and {gamma:g}.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for what is used here
        from art.defences.postprocessor import ReverseSigmoid

    return answering(private, seed, ReverseSigmoid(beta=beta, gamma=gamma), "reverse_sigmoid: classifier", steps=steps)
