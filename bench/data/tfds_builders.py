"""TensorFlow Datasets builders of the sets that TFDS itself does not have.

Imported only when a set is prepared or read, because importing TFDS takes seconds. A file that is not the official
one raises NonMatchingChecksumError, as the builders of TFDS do.
"""

from __future__ import annotations

import csv
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from bench.data.adult_schema import CATEGORIES, FILE, LABELS, NUMBERS
from bench.data.official_files import SETS

Records = Iterator[tuple[int, dict[str, Any]]]
PEOPLE, POSES, FACE = 40, 10, (112, 92)
# SHA-256 of all pictures, person by person: the archive exists in more than one form.
PIXELS = "2e4844a9f4fa4397058f69d6208047170f2e9d399cda18b55c1e8d28f0a83431"
PLACES, KINDS = 446, 30


class AttFaces(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """The Database of Faces: ten pictures of each of forty people, 112x92 grey."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "att_faces.zip as it is downloaded, or att_faces.npz (images uint8, labels)."

    def _info(self) -> Any:
        features = {
            "image": tfds.features.Image(shape=(*FACE, 1)),
            "label": tfds.features.ClassLabel(num_classes=PEOPLE),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://cam-orl.co.uk/facedatabase.html",
            citation="F. Samaria, A. Harter, Parameterisation of a stochastic model for human face identification, "
            "IEEE Workshop on Applications of Computer Vision, 1994",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Records]:
        return {"train": self._generate_examples(_unchecked(self.name, dl_manager))}

    def _generate_examples(self, path: Any) -> Records:
        for i, picture in enumerate(faces(Path(path))):
            yield i, {"image": picture[..., None], "label": i // POSES}


def faces(path: Path) -> NDArray[np.uint8]:
    """All pictures, person by person (400, 112, 92), from the archive of PGM files or from an npz of them."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                pictures = arrays["images"][np.argsort(arrays["labels"], kind="stable")]
        else:
            with zipfile.ZipFile(path) as archive:
                names = {"/".join(name.split("/")[-2:]): name for name in archive.namelist()}
                order = [f"s{person}/{pose}.pgm" for person in range(1, PEOPLE + 1) for pose in range(1, POSES + 1)]
                pictures = np.stack([_pgm(archive.read(names[name])) for name in order])
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise NonMatchingChecksumError(f"{path}: {error}") from error
    if hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest() != PIXELS:
        raise NonMatchingChecksumError(f"{path} holds other pictures")
    return np.asarray(pictures)


def _pgm(data: bytes) -> NDArray[np.uint8]:
    """A binary greyscale picture: "P5", width, height and largest grey level, one white space, then the pixels."""
    kind, width, height, largest = data.split(maxsplit=4)[:4]
    if (kind, int(largest)) != (b"P5", 255):
        raise ValueError("not a picture of 256 grey levels")
    size = int(width) * int(height)
    return np.frombuffer(data[len(data) - size :], np.uint8).reshape(int(height), int(width))


def _checked(name: str, *known: tuple[int, str]) -> dict[str, UrlInfo]:
    """Size and SHA-256 by which TFDS checks each official file, downloaded or found in `manual_dir`."""
    files = SETS[name].files
    return {
        SETS[name].url + file: UrlInfo(tfds.core.utils.Size(size), digest, file)
        for file, (size, digest) in zip(files, known, strict=True)
    }


def _unchecked(name: str, dl_manager: Any) -> Any:
    """The one file of a set that TFDS does not check; the builder checks its content."""
    official, given = SETS[name], []
    with suppress(AssertionError):  # TFDS raises it where no folder was named
        given = [dl_manager.manual_dir / file for file in official.names if (dl_manager.manual_dir / file).exists()]
    return given[0] if given else dl_manager.download(official.address)


class Adult(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """The census income set: what 48,842 people of 1994 do and are, and whether they earn more than 50,000 dollars."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = _checked(
        "adult",
        (3974305, "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"),
        (2003153, "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"),
    )

    def _info(self) -> Any:
        features = {name: tfds.features.Scalar(np.int32) for name in NUMBERS}
        features |= {name: tfds.features.ClassLabel(names=values) for name, values in CATEGORIES.items()}
        features["label"] = tfds.features.ClassLabel(names=LABELS)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage="https://archive.ics.uci.edu/dataset/2/adult",
            citation="B. Becker, R. Kohavi, Adult, UCI Machine Learning Repository, 1996",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Records]:
        paths = dl_manager.download([SETS[self.name].url + file for file in SETS[self.name].files])
        return {split: self._generate_examples(path) for split, path in zip(("train", "test"), paths, strict=True)}

    def _generate_examples(self, path: Any) -> Records:
        with Path(path).open(newline="") as lines:
            for i, cells in enumerate(csv.reader(lines, skipinitialspace=True)):
                if len(cells) == len(FILE):  # adult.test begins with a remark, both end with an empty line
                    record = dict(zip(FILE, cells, strict=True))
                    record["label"] = record["label"].rstrip(".")  # which adult.test adds
                    yield (
                        i,
                        {name: record[name] for name in (*CATEGORIES, "label")}
                        | {name: int(record[name]) for name in NUMBERS},
                    )


class Location30(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Location-30: which of 446 places and kinds of places in Bangkok 5,010 people visited, in 30 clusters."""

    VERSION = tfds.core.Version("1.0.0")
    CITATION = "R. Shokri et al., Membership inference attacks against machine learning models, S&P 2017"
    url_infos = _checked("location30", (287293, "927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33"))

    def _info(self) -> Any:
        features = {
            "visited": tfds.features.Tensor(shape=(PLACES,), dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=KINDS),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("visited", "label"),
            homepage="https://github.com/privacytrustlab/datasets",
            citation=self.CITATION,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Records]:
        return {"train": self._generate_examples(dl_manager.download(SETS[self.name].address))}

    def _generate_examples(self, path: Any) -> Records:
        with tarfile.open(path) as archive:
            held = archive.extractfile("bangkok")
            assert held is not None
            for i, line in enumerate(held.read().decode().splitlines()):
                label, *visited = (int(cell.strip('"')) for cell in line.split(","))
                yield i, {"visited": np.array(visited, np.uint8), "label": label - 1}


STAYS, FINDINGS, PROCEDURES = SETS["texas100"].records, 6169, 100


class Texas100(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Texas-100: 67,330 hospital stays, 6,169 binary findings about each, in the 100 commonest main procedures."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "dataset_texas.tgz as it is downloaded."

    def _info(self) -> Any:
        return _binary(self, FINDINGS, PROCEDURES, "https://github.com/privacytrustlab/datasets", Location30.CITATION)

    def _split_generators(self, dl_manager: Any) -> dict[str, Records]:
        return {"train": self._generate_examples(Path(_unchecked(self.name, dl_manager)))}

    def _generate_examples(self, path: Path) -> Records:
        with _refusing(path), tarfile.open(path) as archive:
            rows, labels = (archive.extractfile(f"texas/100/{name}") for name in ("feats", "labels"))
            assert rows is not None
            assert labels is not None
            n = 0
            for row, label in zip(rows, labels, strict=True):
                cells = np.frombuffer(row.strip(), np.uint8)  # "0,1,0", so that every second byte is a comma
                if (cells[1::2] != ord(",")).any() or not 1 <= int(label) <= PROCEDURES:
                    raise ValueError(f"record {n} is not made of bits and a label of 1 to {PROCEDURES}")
                yield n, {"features": _bits(cells[::2] - ord("0"), FINDINGS, n), "label": int(label) - 1}
                n += 1
            if n != STAYS:
                raise ValueError(f"it holds {n} records, not {STAYS}")


APPS = {"B": 9476, "S": 5560}  # harmless ("benign") and harmful
CALLS = 215


class Drebin215(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Drebin-215: which of 215 calls, permissions and the like were found in 15,036 Android apps."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "drebin215dataset5560malware9476benign.csv as it is downloaded."

    def _info(self) -> Any:
        cited = "S. Y. Yerima, S. Sezer, DroidFusion, IEEE Transactions on Cybernetics 49(2), 2019"
        return _binary(self, CALLS, len(APPS), SETS[self.name].url, cited)

    def _split_generators(self, dl_manager: Any) -> dict[str, Records]:
        return {"train": self._generate_examples(Path(_unchecked(self.name, dl_manager)))}

    def _generate_examples(self, path: Path) -> Records:
        left = dict(APPS)
        with _refusing(path), path.open(newline="") as lines:
            head, *rows = csv.reader(lines)
            if head[-1] != "class":
                raise ValueError("its last column is not the class")
            for i, (*cells, kind) in enumerate(filter(None, rows)):
                left[kind] -= 1
                features = np.array([{"0": 0, "1": 1, "?": 0}[cell] for cell in cells], np.uint8)
                yield i, {"features": _bits(features, CALLS, i), "label": list(APPS).index(kind)}
            if any(left.values()):
                raise ValueError(f"it has too few or too many apps: {left} are left")


def _binary(builder: Any, features: int, classes: int, homepage: str, citation: str) -> Any:
    bits = tfds.features.Tensor(shape=(features,), dtype=np.uint8, encoding=tfds.features.Encoding.ZLIB)
    return tfds.core.DatasetInfo(
        builder=builder,
        description=builder.__doc__,
        features=tfds.features.FeaturesDict({"features": bits, "label": tfds.features.ClassLabel(num_classes=classes)}),
        supervised_keys=("features", "label"),
        homepage=homepage,
        citation=citation,
    )


def _bits(found: NDArray[Any], wanted: int, record: int) -> NDArray[Any]:
    if len(found) != wanted or found.max() > 1:
        raise ValueError(f"record {record} does not consist of {wanted} bits")
    return found


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Raise for a malformed file, however it fails, the error that TFDS raises for one with a wrong digest."""
    try:
        yield
    except (tarfile.TarError, zlib.error, csv.Error, KeyError, ValueError, EOFError, OSError) as error:
        raise NonMatchingChecksumError(f"{path}: {error}") from error
