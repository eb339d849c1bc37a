"""What every artefact says of the noise behind it: the only place where these two sentences are written.

A reproducible run draws its noise from a seed, so that a number can be measured again. A release for users
(`bench.runner.release`) draws it from the operating system and stores no seed.
"""

from __future__ import annotations

SEEDED = "Runs are reproducible because noise is seeded: not private to anyone who knows the seed."
UNSEEDED = "Noise came from the operating system's entropy; no seed of it was written, logged or kept."
