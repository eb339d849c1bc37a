"""The two ways in which noise is drawn, and what each artefact says of its own: the words of both have their home here.

A reproducible run takes its noise from a seed, so that a number can be measured again; a release
(`bench.runner.release`) takes it from the operating system and keeps no seed.
"""

from __future__ import annotations

SEEDED = "Runs are reproducible because noise is seeded: not private to whoever knows the seed."
UNSEEDED = "Noise came from the operating system's entropy; no seed of it was written, logged or kept."
