"""Who is exposed: which private records an attack finds, under which defenses, and which of them under all."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import UserError
from bench.core.files import write
from bench.core.notices import SEEDED
from bench.games.paired import is_made_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.store.records import CellResult
    from bench.store.store import Store

FILE, SUMMARY = "exposed.csv.gz", "exposed.md"
NAMED = 10
COLUMNS = ("data", "seed", "record", "defense", "attack", "non_members_above", "found")


@dataclass(frozen=True)
class Exposure:
    """Of one data set and seed: by how many defenses each private record that was asked about is given away.

    counts[k]: records that the worst attack finds under k of the `defenses`; luck[k]: as many as would be by luck, were
    every attack to find the share `fpr` of members. always: names of those that are found under all.
    """

    data: str
    seed: int
    fpr: float
    defenses: tuple[str, ...]
    counts: tuple[int, ...]
    luck: tuple[float, ...]
    always: tuple[str, ...]


def export(store: Store, results: Iterable[CellResult], fpr: float) -> tuple[list[Path], list[Exposure]]:
    """Write exposed.csv.gz, a line for each private record, defense and attack, and its summary exposed.md.

    A record is named by the first 16 hex digits of the digest of its content (`bench.core.dataset.record_keys`) and
    found where at most `fpr` of the non-members score as high. Only cells of membership count that this checkout
    measured, whose answers are at hand. Raises UserError where there are none.
    """
    if not 0 < fpr < 1:
        raise UserError(f"a false positive rate lies between 0 and 1, not at {fpr:g}.")
    cells = [(result, found) for result in results if (found := _answers(store, result))]
    if not cells:
        raise UserError(
            f"no membership cell in {store.root} was measured here, and what is known of single records stays where it "
            "was measured: run `bench run` first."
        )
    write(store.root / FILE, _table(cells, fpr))
    splits = dict.fromkeys((result.data, result.seed) for result, _ in cells)
    exposures = [_exposure(data, seed, cells, fpr) for data, seed in splits]
    write(store.root / SUMMARY, _markdown(exposures).encode())
    return [store.root / FILE, store.root / SUMMARY], exposures


def _table(cells: Iterable[tuple[CellResult, tuple[list[str], NDArray[Any]]]], fpr: float) -> bytes:
    """The lines, compressed as they come: a whole board has ten million of them."""
    packed = io.BytesIO()
    # the least effort, as more takes far longer for a few per cent; no time inside: same lines, same bytes
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file,
        io.TextIOWrapper(file, "utf-8", newline="") as text,
    ):
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(COLUMNS)
        for result, (names, above) in cells:
            labels = result.data, result.seed, result.defense, result.attack
            lines.writerows(
                (labels[0], labels[1], name, *labels[2:], f"{share:.4g}", int(share <= fpr))
                for name, share in zip(names, above, strict=True)
            )
    return packed.getvalue()


def _markdown(found: Sequence[Exposure]) -> str:
    lines = [
        "# Who is exposed",
        "",
        "Written by `bench exposed`. A private record counts as found under a defense where the worst attack on it "
        f"leaves at most {found[0].fpr:.3g} of the non-members scoring as high. By luck: as many as would be found if "
        "every attack found that share of the members, each on its own. The records themselves stand in "
        f"{FILE}, which is not in git.",
        "",
        "| data | seed | records | defenses | found under none | under one or more | under half or more | under all |",
        "|" + "---|" * 8,
    ]
    for one in found:
        k = len(one.defenses)
        starts = (1, max(1, math.ceil(k / 2)), k)
        shares = [f"{sum(one.counts[i:])} (by luck {sum(one.luck[i:]):.1f})" for i in starts]
        words = [one.data, one.seed, sum(one.counts), k, one.counts[0], *shares]
        lines.append("| " + " | ".join(map(str, words)) + " |")
    lines += ["", "Found under all:", ""]
    lines += [f"- {one.data}, seed {one.seed}: {_named(one.always)}" for one in found]
    return "\n".join([*lines, "", SEEDED, ""])


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (", ".join(names[:NAMED]) or "none") + more


def _answers(store: Store, result: CellResult) -> tuple[list[str], NDArray[Any]] | None:
    """Names of the members (n,), and of each the share of non-members that score as high."""
    # Of public records the question is another one, and a release that read no private record gives none away.
    if result.game != "membership" or "of=" in result.attack or result.privacy["epsilon"] == 0:
        return None
    found = store.load_answers((result.data, result.defense, result.attack, result.seed))
    if not found or not {"records", "units_members"} <= found.keys():
        return None
    if not is_made_of({"units_members": found["units_members"]}, _reached(result)):
        return None
    return [bytes(name).hex() for name in found["records"]], 1 - found["units_members"].astype(np.float64)


def _exposure(
    data: str, seed: int, cells: Sequence[tuple[CellResult, tuple[list[str], NDArray[Any]]]], fpr: float
) -> Exposure:
    here = [(result, found) for result, found in cells if (result.data, result.seed) == (data, seed)]
    worst: dict[str, tuple[CellResult, tuple[list[str], NDArray[Any]]]] = {}
    for result, found in here:
        if result.defense not in worst or _reached(result) > _reached(worst[result.defense][0]):
            worst[result.defense] = result, found
    names = here[0][1][0]
    times: Counter[str] = Counter()
    for _, (members, above) in worst.values():
        times.update(name for name, share in zip(members, above, strict=True) if share <= fpr)
    k, n = len(worst), len(names)
    counts = Counter(times[name] for name in names)
    luck = tuple(n * math.comb(k, i) * fpr**i * (1 - fpr) ** (k - i) for i in range(k + 1))
    always = tuple(sorted(name for name in names if times[name] == k))
    return Exposure(data, seed, fpr, tuple(sorted(worst)), tuple(counts[i] for i in range(k + 1)), luck, always)


def _reached(result: CellResult) -> float:
    return float(result.metrics[str(result.metrics["headline"])]["value"])
