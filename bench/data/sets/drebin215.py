"""Android apps, benign and malicious, by their API calls and permissions."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from bench.core.component import Option, dataset
from bench.core.dataset import DataLocation, Examples, Split, flags, split
from bench.data.sizes import HOLDOUT, PRIVATE, PUBLIC
from bench.data.tfds_source import columns


@dataset("drebin215", has={"attributes"}, records=15_036)
def drebin215(
    where: DataLocation,
    rng: np.random.Generator,
    *,
    private: Annotated[int, PRIVATE] = 2000,
    holdout: Annotated[int, HOLDOUT] = 1400,
    public: Annotated[int, PUBLIC] = 1000,
    attribute: Annotated[
        int, Option("number of the feature that attribute inference asks about", at_least=0, at_most=214)
    ] = 0,
) -> Split:
    """Drebin-215, 215 API calls, permissions and the like of 15,036 Android apps, harmful or not, through TFDS.

    attribute: the feature, in the order of the file, that attribute inference targets. A feature that the file
    leaves open ("?") counts as not found in the app.
    Source: https://figshare.com/articles/dataset/Android_malware_dataset_for_machine_learning_2/5854653; the harmful
    apps are those of Drebin (Arp et al. 2014).
    Licence: none known here: see its page.
    Size: 15,036 records (9,476 harmless, 5,560 harmful), 215 features, 2 classes. How many are distinct was not
    measured here: the file was not within reach, so its builder checks these numbers and that all is binary, and no
    digest. The default sizes leave room for many copies.
    Assumed public: which features there are.
    Citation: S. Y. Yerima, S. Sezer, DroidFusion: a novel multilevel classifier fusion approach for Android malware
    detection, IEEE Transactions on Cybernetics 49(2), 2019 (online 2018).
    """
    found = columns("drebin215", where)
    records = Examples(found["features"], found["label"], classes=2)
    known = flags("drebin215", "feature", records.shape[0], attribute)
    data = split("drebin215", records, rng, private=private, holdout=holdout, public=public)
    return replace(data, attributes=known)
