"""Learned black-box membership inference of the Adversarial Robustness Toolbox (Shokri et al. 2017 in spirit)."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.errors import UserError
from bench.core.release import Release
from bench.games import MEMBERSHIP, Targets

LEARNERS = ("rf", "gb", "lr", "dt", "knn", "svm")  # "nn" would need PyTorch
INPUTS = ("prediction", "loss")


@attack("art_membership", game=MEMBERSHIP, needs={"predict"}, required_score=0.75)
def art_membership(
    release: Release,
    targets: Targets,
    public: Examples,
    *,
    seed: int,
    learner: Annotated[
        str,
        Option(
            "what ART fits: random forest, gradient boosting, logistic regression, tree, neighbours, support vectors",
            one_of=LEARNERS,
        ),
    ] = "rf",
    input_type: Annotated[str, Option("what it is fitted on", one_of=INPUTS)] = "prediction",
) -> NDArray[Any]:
    """ART's MembershipInferenceBlackBox: a learner (rf, gb, lr, dt, knn, svm) on predictions or losses.

    It is fitted on the records whose membership the adversary knows, and scores the targets: on its training records
    its AUC would be near 1 even on noise.
    """
    if learner not in LEARNERS or input_type not in INPUTS:
        raise UserError(
            f"art_membership takes learner={'|'.join(LEARNERS)} and input_type={'|'.join(INPUTS)}, "
            f"not learner={learner}, input_type={input_type}."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for these attacks
        from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
        from art.estimators.classification import BlackBoxClassifierNeuralNetwork
        from art.utils import to_categorical

    known, member, records = targets.known, targets.known_member, targets.records
    # ART's KerasClassifier fails on Keras 2.15, and its black-box estimators have no loss: predictions (or losses in
    # their place) are passed as `pred`, and ART's learner does the rest.
    estimator = BlackBoxClassifierNeuralNetwork(release.predict, known.shape, known.classes, channels_first=False)
    attack = MembershipInferenceBlackBox(estimator, attack_model_type=learner, input_type="prediction")
    if "random_state" in attack.attack_model.get_params():
        attack.attack_model.set_params(random_state=seed % 2**32)

    def features(part: Examples) -> NDArray[Any]:
        probabilities = estimator.predict(part.x)
        if input_type == "prediction":
            return np.asarray(probabilities, np.float32)
        true = np.maximum(probabilities[np.arange(len(part)), part.y], 1e-30)
        losses: NDArray[Any] = -np.log(true, dtype=np.float32)[:, None]
        return losses

    members, non_members = known[member], known[~member]
    attack.fit(
        pred=features(members),
        y=to_categorical(members.y, known.classes),
        test_pred=features(non_members),
        test_y=to_categorical(non_members.y, known.classes),
    )
    y = to_categorical(records.y, known.classes)
    scores = attack.infer(None, y, pred=features(records), probabilities=True)
    return np.asarray(scores, np.float64).reshape(len(records), -1)[:, -1]
