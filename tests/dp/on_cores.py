"""As a script: digests of what two short cells and the libraries beside them compute, on some of the cores.

`python tests/dp/on_cores.py CORE[,CORE...] one|many|late`. one: as the benchmark sets threads; many: as the libraries
choose them; late: as the benchmark does, after NumPy was imported with threads of its own.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main(cores: str, threads: str) -> dict[str, str]:
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    if threads == "late":
        import numpy as np

        np.ones((500, 500)) @ np.ones((500, 500))
    from bench.core import environment

    if threads == "many":
        for name in environment.THREADS:
            os.environ.pop(name, None)
        environment.prepare = lambda: None
        environment.configure = lambda tensorflow: tensorflow.config.experimental.enable_op_determinism()
    import numpy as np

    from bench.conformance.short_runs import small_data
    from bench.core.component import Choice
    from bench.core.dataset import Examples
    from bench.core.digest import digest
    from bench.dp.networks import Classifier
    from bench.dp.recipe import Recipe
    from bench.dp.train import train
    from bench.games import MEMBERSHIP
    from bench.lint.short_options import shortened
    from bench.runner import play
    from bench.runner.registry import discover

    found = discover()
    data, rng = small_data(), np.random.default_rng(0)
    released = play.release(data, shortened(Choice(found.defenses["dp_vaegm"])), 0)
    challenge = MEMBERSHIP.challenge(data, rng)
    answers: dict[str, Any] = {
        name: found.attacks[name].function(released, challenge.targets, challenge.public, seed=0)
        for name in ("confidence", "nearest_sample")
    }
    part = Examples(rng.random((400, 28, 28, 1)), np.arange(400) % 10, 10)
    recipe = Recipe(Classifier((28, 28, 1), 10, (64,), filters=(8, 16)), 6, 0.5, 200.0, 1e-3)
    [fit] = train(recipe, [part], [0])
    matrix = rng.random((700, 700))
    return {
        "dp_vaegm": digest(released.synthetic),
        **{name: digest(answer) for name, answer in answers.items()},
        "convolutions": digest(fit.weights),
        "matrices": digest((matrix @ matrix, np.linalg.inv(matrix))),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
