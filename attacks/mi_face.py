"""MI-Face of the Adversarial Robustness Toolbox (Fredrikson et al. 2015, algorithm 1)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.component import attack
from bench.core.dataset import Examples
from bench.core.randomness import stream
from bench.core.release import Release
from bench.dp.networks import mapping
from bench.dp.tensorflow_setup import tensorflow
from bench.games import INVERSION, Wanted
from bench.models.inversion_search import check_search, doubt_unsure

ARRIVED = 0.9  # probability of the wanted class that ends a search


@attack("mi_face", game=INVERSION, needs={"model"}, floor=0.7)
def mi_face(
    release: Release,
    targets: Wanted,
    public: Examples,
    *,
    seed: int,
    starts: int = 3,
    steps: int = 100,
    learning_rate: float = 0.5,
) -> NDArray[Any]:
    """ART's MIFace: gradient ascent on the probability of the wanted class, from several starts.

    The starts are black, as in the paper, the mean public record, and noise about it; of those that arrive the first is
    the answer, else the surest, for the later ones end in noise that only the model takes for a record. ART's stop
    rules are on their wrong side (a search ends while it gets better and its cost is above the threshold), so
    threshold=1 turns them off and every search runs all its steps.
    """
    tf = tensorflow()
    check_search(starts, steps, learning_rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)  # not needed for what is used here
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
    found = np.empty_like(start)
    for label in np.unique(labels):  # class by class: ART takes the gradient of a whole batch for every class in it
        rows = np.flatnonzero(labels == label)
        found[rows] = search.infer(start[rows], labels[rows])
    predict = mapping(model, after="softmax")
    sure = predict(found)[np.arange(len(labels)), labels].reshape(-1, starts)
    arrived = sure >= ARRIVED
    chosen = np.where(arrived.any(1), arrived.argmax(1), sure.argmax(1))
    best: NDArray[Any] = found.reshape(-1, starts, *targets.shape)[np.arange(len(sure)), chosen]
    doubt_unsure(predict, best, targets.labels)
    return best
