"""The input of a training (Recipe, Privacy), its result (Fit), and the options of DP training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from bench.core.component import Option
from bench.core.errors import UserError
from bench.dp import accounting
from bench.dp.networks import Net, Weights

if TYPE_CHECKING:
    from dp_accounting import DpEvent

ENGINES = ("onepass", "vectorized")
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
# What the models of one program may differ in; the rest decides the shape of the program.
PER_MODEL = ("rate", "batch_size", "privacy")
# Options of training that some defenses have and others do not.
EPSILON = Option("privacy budget under add/remove of one record; inf trains without privacy", above=0)
RATE = Option("chance of each record to be in a Poisson batch", above=0, at_most=1)
BATCH_SIZE = Option("expected number of records in a Poisson batch", at_least=1)
CLIP_NETWORKS = Option("clip encoder and decoder separately, with equal shares of the clip")
CLIP = Option("L2 norm to which the gradient of each record is clipped", above=0, below=math.inf)
STEPS = Option("number of DP-SGD steps", at_least=1)
LEARNING_RATE = Option("learning rate of the first step", above=0)


@dataclass(frozen=True)
class Privacy:
    """The two numbers of the Gaussian mechanism: clip of one record's gradient, and noise in multiples of it."""

    l2_norm_clip: float
    noise_multiplier: float


def _check_plan(steps: int, rate: float) -> None:
    if steps < 1 or not 0 < rate <= 1:
        raise UserError(f"steps must be at least 1 and the sampling rate in (0, 1], not {steps} and {rate:g}.")


@dataclass(frozen=True)
class Recipe:
    """How to train: `steps` Poisson batches, each record with chance `rate`, sums divided by `batch_size`.

    batch_size: a public constant (the expected size, from public numbers only); privacy: None trains plainly.
    engine: "onepass" is ghost clipping (book-keeping, Bu et al. 2022), "vectorized" the reference for any layers.
    momentum: of SGD (default 0), or Adam's beta_1 (default 0.9); schedule: of the learning rate, down to 0 or constant.
    ema: decay of the average of the weights over the steps, which is what is returned; 0 returns the last weights.
    clip_networks: clip each network of several (encoder, decoder) separately, with equal shares of the clip.
    physical_batch: most records that are computed at once; a larger batch is added up from pieces and noised once.
    """

    net: Net
    steps: int
    rate: float
    batch_size: float
    learning_rate: float
    optimizer: str = "adam"
    momentum: float | None = None
    schedule: str = "constant"
    ema: float = 0.0
    privacy: Privacy | None = None
    clip_networks: bool = False
    engine: str = "onepass"
    physical_batch: int = 4096

    def __post_init__(self) -> None:
        _check_plan(self.steps, self.rate)
        if not (self.learning_rate > 0 and self.batch_size > 0):
            raise UserError(
                f"learning_rate and batch_size must be above 0, not {self.learning_rate:g} and {self.batch_size:g}."
            )
        if not (0 <= self.ema < 1 and 0 <= (self.momentum or 0) < 1):
            raise UserError(f"ema and momentum must be from 0 to below 1, not {self.ema:g} and {self.momentum}.")
        if self.physical_batch < 1:
            raise UserError(f"physical_batch must be at least 1, not {self.physical_batch}.")
        for option, known in (("engine", ENGINES), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if (value := getattr(self, option)) not in known:
                raise UserError(f"{option} is one of {', '.join(known)}, not {value}.")


@dataclass(frozen=True)
class Fit:
    """Trained weights (as of one Keras model, in its order), the steps that ran, and their DP event."""

    weights: Weights
    steps: int
    seconds: float
    dp_event: DpEvent


@dataclass(frozen=True)
class DPTraining:
    """The options that all defenses have in common that train with DP-SGD; a defense states its defaults."""

    steps: Annotated[int, STEPS] = 200
    learning_rate: Annotated[float, LEARNING_RATE] = 0.01
    optimizer: Annotated[str, Option("optimizer that takes the noised step", one_of=OPTIMIZERS)] = "adam"
    momentum: Annotated[float, Option("momentum of SGD, or beta_1 of Adam", at_least=0, below=1)] = 0.9
    schedule: Annotated[str, Option("course of the learning rate over the steps", one_of=SCHEDULES)] = "constant"
    ema: Annotated[float, Option("decay of the average of the weights; 0 keeps the last ones", at_least=0, below=1)] = (
        0.0
    )
    l2_norm_clip: Annotated[float, CLIP] = 1.0
    engine: Annotated[str, Option("ghost clipping, or the slow reference for any layers", one_of=ENGINES)] = "onepass"

    def recipe(
        self, net: Net, n: int, epsilon: float, *, rate: float, models: int = 1, clip_networks: bool = False
    ) -> Recipe:
        """The recipe of `models` networks that share n records and train within epsilon, each at Poisson rate `rate`.

        The sums are divided by the expected batch size of one model, at least 1. Raises UserError for options out of
        range.
        """
        return Recipe(
            net,
            self.steps,
            rate,
            max(1.0, rate * n / models),
            self.learning_rate,
            optimizer=self.optimizer,
            momentum=self.momentum,
            schedule=self.schedule,
            ema=self.ema,
            privacy=private_training(epsilon, n, rate, self.steps, self.l2_norm_clip),
            clip_networks=clip_networks,
            engine=self.engine,
        )


def private_training(epsilon: float, n: int, rate: float, steps: int, l2_norm_clip: float) -> Privacy | None:
    """The clip and the least noise that keep `steps` Poisson steps within epsilon at the rule's delta; None for inf."""
    _check_plan(steps, rate)
    if not 0 < l2_norm_clip < math.inf:
        raise UserError(f"l2_norm_clip must be a number above 0, not {l2_norm_clip:g}.")
    if epsilon == math.inf:
        return None
    delta = accounting.delta_for(n)
    return Privacy(l2_norm_clip, accounting.noise_multiplier(epsilon, delta, rate, steps))
