"""The official files of data sets that do not ship with a library: their addresses and the digests of their content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class Official:
    """The official files of one set, and a digest of their content.

    url: of their folder. files: all of them. instead: one file that holds the same records, where there is one.
    content: SHA-256 over the sorted SHA-256 of each record (columns by name, then the label), all splits joined; empty
    where the files were not available to compute it, and only the number of `records` is checked.
    by_hand: whether the user must download them, from the page at `url`.
    """

    url: str
    files: tuple[str, ...]
    content: str = ""
    instead: str = ""
    records: int = 0
    by_hand: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that is accepted, the usual ones first."""
        return (*self.files, self.instead) if self.instead else self.files

    @property
    def address(self) -> str:
        """The download address of a set that consists of one file."""
        [file] = self.files
        return self.url + file

    def missing(self, folder: Path) -> list[str]:
        """The files that a folder lacks; none where it holds the file that replaces them."""
        if self.instead and (folder / self.instead).is_file():
            return []
        return [file for file in self.files if not (folder / file).is_file()]


SETS = {
    "mnist": Official(  # addresses as in TFDS' builders
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        IDX,
        "f61a719b6fd94f4e04811e53dda3c78f5cd07b2d48f36c353dd0b453aab660e0",
    ),
    "fashion_mnist": Official(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        IDX,
        "c22292c847034e4f0856c3099ca0bd11a118af543994973d473bc732d184ab47",
    ),
    "att_faces": Official(
        "https://www.cl.cam.ac.uk/Research/DTG/attarchive/pub/data/",
        ("att_faces.zip",),
        "e4b68885f3077420545fd83ba6857840474863028396be2c589810e80f2c57e4",
        instead="att_faces.npz",
    ),
    "adult": Official(
        "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",
        ("adult.data", "adult.test"),
        "01adb2b8eae69014cc2bb1f939e90f21a5b8d51832418de3d97f6d963d7e77a1",
    ),
    "location30": Official(
        "https://github.com/privacytrustlab/datasets/raw/master/",
        ("dataset_location.tgz",),
        "2f7e55cfdf4c7d636c3d5e4aab172a09df80c8c40609ecaf59def1f128ed06da",
    ),
    "texas100": Official(
        "https://github.com/privacytrustlab/datasets/raw/master/", ("dataset_texas.tgz",), records=67_330
    ),
    "drebin215": Official(
        "https://figshare.com/articles/dataset/Android_malware_dataset_for_machine_learning_2/5854653",
        ("drebin215dataset5560malware9476benign.csv",),
        records=15_036,
        by_hand=True,
    ),
}
