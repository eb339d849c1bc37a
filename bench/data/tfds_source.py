"""Data sets of official files: found or downloaded, prepared by TensorFlow Datasets, checked by digest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
import tempfile
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from numpy.typing import NDArray

from bench.core.dataset import DataLocation, Examples
from bench.core.environment import configure
from bench.core.errors import Caveat, UserError
from bench.data.official_files import SETS, Official

Columns = dict[str, NDArray[Any]]
TIMEOUT = 1.5  # seconds for a host to answer, so that an error takes under 2


def columns(name: str, where: DataLocation) -> Columns:
    """The records of a set, all its splits joined: columns by name, among them `label`.

    Prepared sets are stored where TFDS stores them. Warns with a Caveat where no digest of the records is known.
    """
    folder = Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets").expanduser()
    loaded = columns_once(name, where, folder)
    if not SETS[name].content:
        caveat = f"{name} was checked by its size and form alone: no digest of the official records is known here"
        warnings.warn(Caveat(caveat), stacklevel=2)
    return loaded


@lru_cache(maxsize=4)
def columns_once(name: str, where: DataLocation, folder: Path) -> Columns:
    """`folder` holds prepared sets. Loaded once per process, because every seed loads the set again."""
    versions = sorted(folder.glob(f"{name}/[0-9]*"))
    for version in versions:
        if not (version / "dataset_info.json").is_file():  # TFDS writes it last
            raise UserError(f"{version} is only a part of a prepared set: delete it and run again.")
    # Check that there is anything to read before TensorFlow is imported, which takes seconds.
    official = None if versions else _official(name, where)
    import tensorflow as tf
    import tensorflow_datasets as tfds

    import bench.data.tfds_builders  # noqa: F401 - TFDS knows a builder once it is imported

    configure(tf)  # reading starts TensorFlow
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints; stdout belongs to the table
        builder = tfds.builder(name, data_dir=folder)
        if not Path(builder.data_dir).is_dir():
            prepare(builder, official or _official(name, where), folder)
            builder = tfds.builder(name, data_dir=folder)
        return _read(builder, SETS[name])


def prepare(builder: Any, official: Path | None, folder: Path) -> None:
    """Run the builder, on the official files where they are in a folder, else on downloaded ones."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    files = SETS[builder.name]
    source = official or files.url
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # TFDS names unpacked files after the archive alone: in its usual folder, shared by all sets, a Fashion-MNIST
        # prepared after MNIST consists of MNIST's pictures (seen in 4.9.10). So each preparation has its own folder.
        with tempfile.TemporaryDirectory(prefix=f"incomplete.{builder.name}.", dir=folder) as unpacked:
            config = tfds.download.DownloadConfig(
                manual_dir=official,
                extract_dir=unpacked,
                try_download_gcs=False,
                force_checksums_validation=builder.url_infos is not None,  # else the builder checks the content
            )
            builder.download_and_prepare(download_config=config)
    except NonMatchingChecksumError as error:
        bad = next((file for file in files.names if file in str(error)), "a file")
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


def _read(builder: Any, official: Official) -> Columns:
    """A prepared set, in an order that depends on its content alone, checked by digest or number of records."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        with tf.device("CPU:0"):
            parts = [tfds.as_numpy(builder.as_dataset(split=part, batch_size=-1)) for part in builder.info.splits]
    except (OSError, ValueError, tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise UserError(f"{builder.data_dir} cannot be read ({_short(error)}): delete it and run again.") from error
    joined = {name: np.concatenate([part[name] for part in parts]) for name in sorted(parts[0])}
    y = joined["label"]
    bytes_of = [np.ascontiguousarray(v).reshape(len(y), -1).view(np.uint8) for k, v in joined.items() if k != "label"]
    rows = np.concatenate(bytes_of, axis=1)
    keys = [hashlib.sha256(row.tobytes() + bytes([label])).digest() for row, label in zip(rows, y, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    content = hashlib.sha256(b"".join(keys[i] for i in order)).hexdigest()
    if content != official.content if official.content else len(keys) != official.records:
        raise UserError(f"{builder.data_dir} does not hold the {builder.name} of its authors: delete it and run again.")
    ordered = {name: column[order] for name, column in joined.items()}
    for column in ordered.values():
        column.setflags(write=False)
    return ordered


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _official(name: str, where: DataLocation) -> Path | None:
    """The folder that holds the official files, or None where they must be downloaded.

    Raises UserError within 2 seconds where there is neither a folder nor a network.
    """
    official, partly = SETS[name], None
    for folder in (where.data_dir / name, where.data_dir / "tfds_manual" / name) if where.data_dir else ():
        missing = official.missing(folder)
        if not missing:
            return folder.resolve()
        if len(missing) < len(official.files):
            partly = partly or (folder, missing)
    if partly:
        raise UserError(f"{partly[0]} lacks {' and '.join(partly[1])}: put the official {name} files there.")
    if official.by_hand:
        why = f"is downloaded by hand, from {official.url}"
    elif where.offline:
        why = "--offline forbids to download it"
    elif answers(official.url):
        return None
    else:
        why = f"{urlsplit(official.url).hostname} does not answer"
    target = (where.data_dir or Path("DIR")) / name
    how = "" if where.data_dir else " and give --data-dir DIR or set BENCH_DATA_DIR"
    online = "" if official.by_hand else "or connect to the network, "
    files = ", ".join(official.files) + (f" (or {official.instead})" if official.instead else "")
    raise UserError(
        f"{name} is not on this machine and {why}: put its official files {files} into {target}{how}, {online}"
        f"or copy ~/tensorflow_datasets/{name} from a machine on which `bench run --data {name}` ran."
    )


def answers(url: str) -> bool:
    """Whether a host, or the proxy before it, accepts a connection in time."""
    proxy = getproxies().get(urlsplit(url).scheme)
    target = urlsplit(proxy or url)
    port = target.port or (443 if target.scheme == "https" else 80)
    answered = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection((target.hostname or "", port), timeout=TIMEOUT):
            answered.set()

    # Resolving a name has no timeout, so it runs in a thread that can be abandoned.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return answered.is_set()


def grey_images(name: str, where: DataLocation) -> Examples:
    """The records of a set of square greyscale pictures in ten classes."""
    loaded = columns(name, where)
    return Examples(loaded["image"] / np.float32(255), loaded["label"], classes=10)
