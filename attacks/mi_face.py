"""MI-Face of the Adversarial Robustness Toolbox (Fredrikson et al. 2015, algorithm 1)."""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import Option, attack
from bench.core.dataset import Examples
from bench.core.randomness import stream
from bench.core.release import Release
from bench.dp.networks import mapping
from bench.dp.tensorflow_setup import tensorflow
from bench.games import INVERSION, InversionTargets
from bench.models.inversion_search import check_search, doubt_unsure

CONFIDENT = 0.9  # probability of the target class at which a search counts as successful


@attack("mi_face", game=INVERSION, needs={"model"}, required_score=0.7)
def mi_face(
    release: Release,
    targets: InversionTargets,
    public: Examples,
    *,
    seed: int,
    starts: Annotated[
        int, Option("searches per target: black, the mean public record, then noise about it", at_least=1)
    ] = 3,
    steps: Annotated[int, Option("steps of each search", at_least=1)] = 100,
    learning_rate: Annotated[float, Option("of the search", above=0, below=math.inf)] = 0.5,
) -> NDArray[Any]:
    """ART's MIFace: gradient ascent on the probability of the target class, from several starts.

    The starts are black, as in the paper, the mean public record, and noise around it. The answer is the first
    successful search, else the most confident one; later starts tend to end in adversarial noise. ART's stop rules are
    inverted (a search ends while it improves and its cost is above the threshold), so threshold=1 turns them off and
    every search runs all its steps.
    """
    tf = tensorflow()
    check_search(starts, steps, learning_rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for these attacks
        from art.attacks.inference.model_inversion import MIFace
        from art.estimators.classification import TensorFlowV2Classifier

    model = release.model
    assert model is not None

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def probabilities(x: Any, training: bool = False) -> Any:
        return tf.nn.softmax(model(x))

    classifier = TensorFlowV2Classifier(probabilities, targets.classes, targets.shape, clip_values=(0.0, 1.0))
    labels = np.repeat(targets.labels, starts)
    noise = stream(seed, "starts").standard_normal((len(targets.labels), starts, *targets.shape), np.float32)
    noise[:, :2] = 0
    start = np.clip(public.x.mean(0) + 0.2 * noise, 0, 1)
    start[:, 0] = 0
    start = start.reshape(-1, *targets.shape)
    search = MIFace(classifier, steps, 1, 1.0, float(learning_rate), batch_size=len(labels), verbose=False)
    pictures = np.empty_like(start)
    for label in np.unique(labels):  # class by class: ART computes the gradient of a whole batch for every class in it
        rows = np.flatnonzero(labels == label)
        pictures[rows] = search.infer(start[rows], labels[rows])
    predict = mapping(model, after="softmax")
    confidence = predict(pictures)[np.arange(len(labels)), labels].reshape(-1, starts)
    successful = confidence >= CONFIDENT
    chosen = np.where(successful.any(1), successful.argmax(1), confidence.argmax(1))
    best: NDArray[Any] = pictures.reshape(-1, starts, *targets.shape)[np.arange(len(confidence)), chosen]
    doubt_unsure(predict, best, targets.labels)
    return best
