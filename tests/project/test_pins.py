"""Every pinned library, used in the way in which another version is known to fail."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest


@pytest.fixture(scope="module")
def keras_model():
    """A softmax classifier of 4 features and 2 classes."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    return tf.keras.Sequential([tf.keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(2, "softmax")])


@pytest.fixture(scope="module")
def records():
    """120 records of 4 features in [0, 1] with a label that the first feature decides."""
    x = np.random.default_rng(0).uniform(size=(120, 4)).astype(np.float32)
    return x, (x[:, 0] > 0.5).astype(np.int64)


def test_tensorflow_brings_keras_two(keras_model, records):
    import keras
    import tensorflow as tf

    assert tf.__version__ == "2.15.1"
    assert keras.__version__.startswith("2.15.")
    assert isinstance(keras_model, keras.Model)
    x, y = records
    keras_model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(keras_model.fit(x, y, epochs=1, verbose=0).history["loss"][0])


def test_tensorflow_datasets_is_not_an_empty_module():
    """With a protobuf too old for tensorflow-metadata the import succeeds, but the module is empty."""
    import tensorflow_datasets as tfds

    for name in ("load", "builder", "core", "download"):
        assert hasattr(tfds, name), name
    assert tfds.core.Version("1.2.3").major == 1
    assert "mnist" in tfds.list_builders()


def test_tensorflow_metadata_reads_its_own_messages():
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = schema_pb2.Schema()
    schema.feature.add().name = "pixel"
    assert schema_pb2.Schema.FromString(schema.SerializeToString()).feature[0].name == "pixel"


def test_pyarrow_and_numpy_exchange_arrays():
    import pyarrow as pa

    values = np.arange(6, dtype=np.float32)
    there = pa.array(values)
    np.testing.assert_array_equal(there.to_numpy(), values)
    assert pa.table({"v": there}).to_pandas()["v"].tolist() == values.tolist()


def test_pkg_resources_is_installed_for_tensorboard():
    """In a new process, because the deprecation warning of pkg_resources appears once per process."""
    code = "import pkg_resources; from tensorboard import default, version; print(version.VERSION)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2.15")


def test_importlib_resources_is_there_for_tensorflow_datasets():
    import importlib_resources

    assert importlib_resources.files("tensorflow_datasets").joinpath("version.py").is_file()


def test_dp_optimizer_clips_and_takes_a_step(keras_model, records):
    """Clip norm 1, no noise, rate 1, one record: the weights move by 1, however large the loss."""
    import tensorflow as tf
    import tensorflow_privacy

    x, y = records
    model = tf.keras.models.clone_model(keras_model)
    optimizer = tensorflow_privacy.DPKerasSGDOptimizer(
        l2_norm_clip=1.0, noise_multiplier=0.0, num_microbatches=None, learning_rate=1.0
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(reduction=tf.keras.losses.Reduction.NONE)
    before = [w.numpy() for w in model.trainable_variables]
    with tf.GradientTape() as tape:
        losses = 100.0 * loss(y[:1], model(x[:1]))
    optimizer.minimize(losses, model.trainable_variables, tape=tape)
    moved = [w.numpy() - b for w, b in zip(model.trainable_variables, before, strict=True)]
    norm = float(np.sqrt(sum((m**2).sum() for m in moved)))
    assert norm == pytest.approx(1, abs=1e-4), "a gradient far above the clip norm moves the weights by exactly 1"


def test_art_classifiers_predict_on_keras_two(keras_model, records):
    """ART's KerasClassifier fails on Keras 2.15; the attacks may use these two classes."""
    import tensorflow as tf
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork, TensorFlowV2Classifier

    x, _ = records
    expected = keras_model(x).numpy()
    white = TensorFlowV2Classifier(
        keras_model, nb_classes=2, input_shape=(4,), loss_object=tf.keras.losses.CategoricalCrossentropy()
    )
    black = BlackBoxClassifierNeuralNetwork(lambda a: keras_model(a).numpy(), input_shape=(4,), nb_classes=2)
    np.testing.assert_allclose(white.predict(x), expected, atol=1e-6)
    np.testing.assert_allclose(black.predict(x), expected, atol=1e-6)


def test_art_membership_inference_with_a_random_forest(keras_model, records):
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    x, y = records
    estimator = BlackBoxClassifierNeuralNetwork(lambda a: keras_model(a).numpy(), input_shape=(4,), nb_classes=2)
    attack = MembershipInferenceBlackBox(estimator, input_type="prediction", attack_model_type="rf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attack.fit(x[:40], y[:40], x[40:80], y[40:80])
        answer = np.ravel(attack.infer(x[80:], y[80:], probabilities=True))
    assert answer.shape == (40,)
    assert ((answer >= 0) & (answer <= 1)).all()
    assert set(np.unique(answer)) - {0.0, 1.0}, "rounded, although probabilities were requested"


def test_pld_accountant_knows_the_gaussian_mechanism():
    """Sigma 1, one step: delta(eps) = Phi(1/2 - eps) - exp(eps) Phi(-1/2 - eps) (Balle and Wang 2018), to 0.1 %."""
    from dp_accounting import GaussianDpEvent
    from dp_accounting.pld import PLDAccountant
    from scipy.optimize import brentq
    from scipy.stats import norm

    def excess(epsilon: float) -> float:
        return float(norm.cdf(0.5 - epsilon) - np.exp(epsilon) * norm.cdf(-0.5 - epsilon) - 1e-5)

    accountant = PLDAccountant()
    accountant.compose(GaussianDpEvent(1.0))
    assert accountant.get_epsilon(1e-5) == pytest.approx(brentq(excess, 0.1, 20), rel=1e-3)


def test_pld_accountant_knows_a_poisson_run():
    """Rate 0.1, 300 steps: PLD is below RDP, and the two are close."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    event = SelfComposedDpEvent(PoissonSampledDpEvent(0.1, GaussianDpEvent(1.9)), 300)
    pld, rdp = (a.compose(event).get_epsilon(1e-5) for a in (PLDAccountant(), RdpAccountant()))
    assert 0.7 * rdp < pld < rdp


def test_pictures_and_tables_are_drawn(tmp_path):
    import matplotlib

    matplotlib.use("agg")
    import pandas as pd
    import seaborn as sns

    frame = pd.DataFrame({"epsilon": [1.0, 8.0], "accuracy": [0.3, 0.8], "defense": ["a", "b"]})
    figure = sns.relplot(frame, x="epsilon", y="accuracy", hue="defense")
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_plain_yaml_and_rich():
    import io

    import yaml
    from rich.console import Console
    from rich.table import Table

    assert yaml.safe_load("defense: [dp_vaegm]\nseeds: 0-4\n") == {"defense": ["dp_vaegm"], "seeds": "0-4"}
    table = Table("defense", "AUC")
    table.add_row("none", "0.58")
    page = io.StringIO()
    Console(file=page, width=40).print(table)
    assert "0.58" in page.getvalue()
