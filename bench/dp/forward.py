"""The forward pass of a training: per-record losses, with what ghost clipping needs of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.dp.tensorflow_setup import tensorflow

if TYPE_CHECKING:
    from bench.dp.recipe import Recipe


class Forward:
    """The model with what ghost clipping needs of it: input and output of each layer that records train."""

    def __init__(self, recipe: Recipe, model: Any, models: int) -> None:
        from bench.dp.clipping import ghost_layers

        tf = tensorflow()
        self.net, self.model, self.models = recipe.net, model, models
        ghost = recipe.privacy is not None and recipe.engine == "onepass"
        self.layers = ghost_layers(model) if ghost else []
        seen = [*(layer.input for layer in self.layers), *(layer.output for layer in self.layers)]
        self.view = tf.keras.Model(model.inputs, [*model.outputs, *seen]) if ghost else model

    def _run(self, view: Any, bx: Any, by: Any, noise: Any) -> list[Any]:
        tf = tensorflow()
        inputs = [bx]
        if self.net.noise_inputs:
            inputs.append(noise)
        if self.net.labels:
            inputs.append(tf.one_hot(by, self.net.labels))
        return list(tf.nest.flatten(view(inputs, training=True)))  # Keras unwraps a list of one

    def outputs(self, bx: Any, by: Any, noise: Any) -> list[Any]:
        """The outputs of the network itself."""
        return self._run(self.model, bx, by, noise)

    def __call__(self, bx: Any, by: Any, noise: Any) -> tuple[Any, list[Any], list[Any]]:
        """Per-record losses, and inputs and outputs of the layers."""
        out, count, sites = self._run(self.view, bx, by, noise), len(self.model.outputs), len(self.layers)
        losses = self.net.loss(out[:count], bx, by)
        return losses, out[count : count + sites], out[count + sites :]

    def check(self) -> None:
        """Refuse a network whose clipping would bound nothing."""
        from bench.dp.optimizer import check_private

        tf = tensorflow()
        lead = (3,) if self.models == 1 else (self.models, 3)
        probe = tf.random.stateless_uniform((*lead, *self.net.shape), [0, 1])
        noise = tf.random.stateless_normal((*lead, self.net.noise_inputs), [0, 2])

        def losses(x: Any) -> Any:
            return self(x, tf.zeros(lead, tf.int64), noise)[0]

        check_private(self.model, losses, probe)
