"""Learned black-box attribute inference of the Adversarial Robustness Toolbox (Fredrikson et al. 2014 in spirit)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.randomness import stream
from bench.core.release import Release
from bench.games import ATTRIBUTE, AttributeTargets

# "nn" would need PyTorch; with "rf" and "knn" ART predicts each value by itself and takes "none of them" for the first.
LEARNERS = ("lr", "gb", "dt", "svm")


@attack("art_attribute", game=ATTRIBUTE, needs={"predict"})
def art_attribute(
    release: Release,
    targets: AttributeTargets,
    public: Examples,
    *,
    seed: int,
    learner: Annotated[
        str,
        Option(
            "what ART fits: logistic regression, gradient boosting, decision tree, support vectors", one_of=LEARNERS
        ),
    ] = "lr",
) -> NDArray[Any]:
    """ART's AttributeInferenceBlackBox: a learner (lr, gb, dt, svm) on records and the release's predictions.

    It is fitted on public records, of which the attribute is known. Of a prediction ART gives its learner the class
    alone, and expects that of the complete record, which the adversary does not have. So the log odds of the true label
    with each value of the attribute are added as features.
    """
    if learner not in LEARNERS:
        raise UserError(f"art_attribute takes learner={'|'.join(LEARNERS)}, not learner={learner}.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for these attacks
        from art.estimators.classification import BlackBoxClassifierNeuralNetwork
        from art.utils import to_categorical

    known, value = targets.training_set(public)
    k, classes = len(targets.values), known.classes
    if len(np.unique(value)) < k:
        raise UserError(
            f"the public records lack a value of {targets.attribute.name} that the others have, so ART cannot learn "
            "it: ask for more public records."
        )
    rows = _balanced(value, stream(seed, "balanced"))
    known, value = known[rows], value[rows]
    rest = np.delete(np.arange(known.x.shape[1]), np.s_[targets.attribute.start : targets.attribute.stop])
    table = _table(release, targets, known, rest)

    def predict(x: NDArray[Any]) -> NDArray[Any]:
        """The release's predictions for rows of the table, without the attribute."""
        assert release.predict is not None
        records = np.zeros((len(x), known.x.shape[1]), np.float32)
        records[:, rest] = x[:, -table.shape[1] :][:, : len(rest)]
        return np.asarray(release.predict(records))

    estimator = BlackBoxClassifierNeuralNetwork(predict, (1 + table.shape[1],), classes, channels_first=False)
    attack = _seeded(estimator, learner, seed)
    attack.fit(np.concatenate([value[:, None].astype(np.float32), table], 1), y=to_categorical(known.y, classes))
    target_table = _table(release, targets, targets.records, rest)
    guess = attack.infer(
        target_table,
        y=to_categorical(targets.records.y, classes),
        pred=estimator.predict(target_table).argmax(1)[:, None],
        values=list(range(k)),
    )
    scores: NDArray[Any] = np.eye(k)[np.asarray(guess).reshape(-1).astype(int)]
    return scores


def _seeded(estimator: Any, learner: str, seed: int) -> Any:
    """ART's attack on the first feature, whose learner draws its randomness from the seed."""
    from art.attacks.inference.attribute_inference import AttributeInferenceBlackBox

    attack = AttributeInferenceBlackBox(estimator, attack_model_type=learner, attack_feature=0)
    attack.attack_model.set_params(random_state=seed % 2**32)
    if learner == "lr":  # by default it over-fits where records have hundreds of features, and stops too early
        attack.attack_model.set_params(C=0.01, max_iter=1000)
    return attack


def _table(release: Release, targets: AttributeTargets, records: Examples, rest: NDArray[Any]) -> NDArray[Any]:
    """Records (n, features without the attribute + values): the features, then log odds of the true label."""
    assert release.predict is not None
    return np.concatenate([records.x[:, rest], replace(targets, records=records).log_odds(release.predict)], 1)


def _balanced(value: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Rows drawn with replacement, equally many of each value, so that a rare value is guessed too."""
    present = np.unique(value)
    each = -(-len(value) // len(present))
    return np.concatenate([rng.choice(np.flatnonzero(value == one), each) for one in present])
