"""The data sets: where each comes from, how it becomes features in [0, 1], and its default sizes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from numpy.typing import NDArray

from bench.data import Data, Examples, Where, shared, split
from bench.errors import UserError
from bench.registry import dataset

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
URLS = {  # as in TFDS' builders
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
# SHA-256 over the sorted SHA-256 of each record (pixels, label), train and test joined.
CONTENT = {
    "mnist": "f61a719b6fd94f4e04811e53dda3c78f5cd07b2d48f36c353dd0b453aab660e0",
    "fashion_mnist": "c22292c847034e4f0856c3099ca0bd11a118af543994973d473bc732d184ab47",
}
PATIENCE = 1.5  # seconds for a host to answer, so that a refusal takes under 2


@dataset("digits", has={"pictures"})
def digits(
    where: Where, rng: np.random.Generator, *, private: int = 1000, holdout: int = 500, public: int = 297
) -> Data:
    """Handwritten digits, 8x8 grey, 10 classes, 1,797 distinct records, inside scikit-learn.

    Source: E. Alpaydin, C. Kaynak, UCI ML repository, 1998.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    records = Examples(raw.images[..., None] / 16, raw.target, classes=10)  # 16 is the format's largest grey
    return split("digits", records, rng, private=private, holdout=holdout, public=public)


@dataset("breast_cancer")
def breast_cancer(
    where: Where, rng: np.random.Generator, *, private: int = 250, holdout: int = 200, public: int = 119
) -> Data:
    """Breast cancer Wisconsin (diagnostic), 30 measurements, 2 classes, 569 distinct records, inside scikit-learn.

    Scaled by the ranges of the public part alone; what lies outside of them is clipped to [0, 1].
    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, UCI ML repository, 1995.
    """
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    records = Examples(raw.data, raw.target, classes=2)
    return scaled(split("breast_cancer", records, rng, private=private, holdout=holdout, public=public))


@dataset("mnist", has={"pictures"})
def mnist(
    where: Where, rng: np.random.Generator, *, private: int = 50000, holdout: int = 14000, public: int = 6000
) -> Data:
    """MNIST, handwritten digits, 28x28 grey, 10 classes, 70,000 distinct records, through TFDS.

    Source: Y. LeCun, C. Cortes, C. Burges, 1998.
    """
    return split("mnist", _images("mnist", where), rng, private=private, holdout=holdout, public=public)


@dataset("fashion_mnist", has={"pictures"})
def fashion_mnist(
    where: Where, rng: np.random.Generator, *, private: int = 50000, holdout: int = 14000, public: int = 6000
) -> Data:
    """Fashion-MNIST, clothes, 28x28 grey, 10 classes, 70,000 distinct records, through TFDS.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Zalando Research, arXiv:1708.07747.
    """
    return split("fashion_mnist", _images("fashion_mnist", where), rng, private=private, holdout=holdout, public=public)


def scaled(data: Data) -> Data:
    """Map each feature to [0, 1] by the range of the public part alone, clipping the other parts.

    The private and holdout records decide nothing, so the guarantee of a defense is untouched. Raises UserError where
    the public part is too small for that: so many values were clipped that different records became the same.
    """
    low = data.public.x.min(0)
    span = data.public.x.max(0) - low
    span = np.where(span > 0, span, 1)  # a feature that is constant in public tells above from below
    parts = (
        Examples(np.clip((part.x - low) / span, 0, 1), part.y, part.classes)
        for part in (data.private, data.holdout, data.public)
    )
    result = Data(data.name, *parts)
    if shared(result):
        raise UserError(f"{data.name}: public={len(data.public)} records are too few to scale by: ask for more.")
    return result


def _images(name: str, where: Where) -> Examples:
    folder = Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets").expanduser()
    x, y = _arrays(name, where, folder)
    return Examples(x / np.float32(255), y, classes=10)


@lru_cache(maxsize=4)
def _arrays(name: str, where: Where, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Train and test of a TensorFlow Datasets set, joined: uint8 (n, 28, 28, 1) and labels (n,).

    `folder` holds prepared sets. Loaded once in a process, because each seed of a cell asks again.
    """
    versions = sorted(folder.glob(f"{name}/[0-9]*"))
    for version in versions:
        if not (version / "dataset_info.json").is_file():  # TFDS writes it last, and under another folder name
            raise UserError(f"{version} is only a part of a prepared set: delete it and run again.")
    # Whether there is anything to read is decided before TensorFlow is imported, which takes seconds.
    official = None if versions else _official(name, where)
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints; stdout belongs to the table
        builder = tfds.builder(name, data_dir=folder)
        if not Path(builder.data_dir).is_dir():
            _prepare(builder, official or _official(name, where), folder)
            builder = tfds.builder(name, data_dir=folder)
        return _read(builder, CONTENT[name])


def _prepare(builder: Any, official: Path | None, folder: Path) -> None:
    """Run the real builder, on the official files where they are at hand, else on downloaded ones."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    source = official or URLS[builder.name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # TFDS names what it unpacks after the file alone: in its usual folder, shared by all sets, a Fashion-MNIST
        # prepared after MNIST consists of MNIST's pictures (measured, 4.9.10). So each preparation unpacks on its own.
        with tempfile.TemporaryDirectory(prefix=f"incomplete.{builder.name}.", dir=folder) as unpacked:
            config = tfds.download.DownloadConfig(
                manual_dir=official, extract_dir=unpacked, try_download_gcs=False, force_checksums_validation=True
            )
            builder.download_and_prepare(download_config=config)
    except NonMatchingChecksumError as error:
        bad = next((file for file in FILES if file in str(error)), "a file")
        raise UserError(f"{bad} from {source} is damaged (its checksum is wrong): fetch it again.") from error
    except OSError as error:
        if (Path(builder.data_dir) / "dataset_info.json").is_file():
            return  # another process was faster
        raise UserError(
            f"{builder.name} could not be prepared in {folder} from {source} ({_short(error)}): see that {folder} can "
            "be written to and has 200 MB free, or set TFDS_DATA_DIR to one that does, and that the source answers."
        ) from error
    except tfds.download.DownloadError as error:
        raise UserError(f"{builder.name} could not be downloaded ({_short(error)}): try again later.") from error


def _read(builder: Any, content: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A prepared set, in an order that depends on its content alone, after a check that it is what it claims to be."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        with tf.device("CPU:0"):
            parts = [tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1)) for part in ("train", "test")]
    except (OSError, ValueError, tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise UserError(f"{builder.data_dir} cannot be read ({_short(error)}): delete it and run again.") from error
    x = np.concatenate([part["image"] for part in parts])
    y = np.concatenate([part["label"] for part in parts])
    keys = [hashlib.sha256(row.tobytes() + bytes([label])).digest() for row, label in zip(x, y, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    if hashlib.sha256(b"".join(keys[i] for i in order)).hexdigest() != content:
        raise UserError(f"{builder.data_dir} does not hold the {builder.name} of its authors: delete it and run again.")
    x, y = x[order], y[order]
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _official(name: str, where: Where) -> Path | None:
    """The folder that holds the four official files, or None where they are to be downloaded.

    Raises UserError within 2 seconds where there is neither a folder nor a network.
    """
    partly = None
    for folder in (where.data_dir / name, where.data_dir / "tfds_manual" / name) if where.data_dir else ():
        missing = [file for file in FILES if not (folder / file).is_file()]
        if not missing:
            return folder.resolve()
        if len(missing) < len(FILES):
            partly = partly or (folder, missing)
    if partly:
        raise UserError(f"{partly[0]} lacks {' and '.join(partly[1])}: put the official {name} files there.")
    if not where.offline and _answers(URLS[name]):
        return None
    why = "--offline forbids to download it" if where.offline else f"{urlsplit(URLS[name]).hostname} does not answer"
    target = (where.data_dir or Path("DIR")) / name
    how = "" if where.data_dir else " and give --data-dir DIR or set BENCH_DATA_DIR"
    raise UserError(
        f"{name} is not on this machine and {why}: put its official files {', '.join(FILES)} into {target}{how}, or "
        f"connect to the network, or run `tfds build {name}` on another machine and copy ~/tensorflow_datasets/{name}."
    )


def _answers(url: str) -> bool:
    """Whether a host, or the proxy before it, takes a connection in time."""
    proxy = getproxies().get(urlsplit(url).scheme)
    target = urlsplit(proxy or url)
    port = target.port or (443 if target.scheme == "https" else 80)
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError), socket.create_connection((target.hostname or "", port), timeout=PATIENCE):
            answered.set()

    # Resolving a name has no timeout; a thread can be left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()
