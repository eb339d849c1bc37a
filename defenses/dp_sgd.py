"""DP-SGD on the classifier itself (Abadi et al. 2016): the usual way, and the rival of every generator."""

from __future__ import annotations

from bench.classifier import batch_rate, classify
from bench.data import Examples
from bench.registry import defense
from bench.release import Release
from bench.training import private_training


@defense(
    "dp_sgd",
    publishes={"predict", "model"},
    private=True,
    assumes=("the number of private records", "the set of labels", "features between 0 and 1"),
)
def dp_sgd(
    private: Examples,
    public: Examples,
    *,
    seed: int,
    epsilon: float = 8.0,
    hidden: tuple[int, ...] = (64,),
    activation: str = "tanh",
    steps: int = 200,
    batch_size: int = 500,
    learning_rate: float = 0.01,
    l2_norm_clip: float = 1.0,
) -> Release:
    """The classifier itself trained with DP-SGD (epsilon=inf: trained plainly)."""
    rate = batch_rate(len(private), batch_size)
    trained = classify(
        private,
        seed,
        hidden=hidden,
        steps=steps,
        rate=rate,
        learning_rate=learning_rate,
        activation=activation,
        privacy=private_training(epsilon, len(private), rate, steps, l2_norm_clip),
        what="dp_sgd: classifier",
    )
    return Release(trained.fit.spent, predict=trained.predict, model=trained.model)
