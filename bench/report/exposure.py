"""Exposure: which private records an attack finds, under which defenses, and which of them under all."""

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
from bench.core.markdown import item, table
from bench.core.notices import SEEDED
from bench.games.paired import is_made_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.store.records import CellResult
    from bench.store.store import Store

    Shares = tuple[list[str], NDArray[Any]]  # names of members (n,), shares of non-members that score as high (n,)
    Attacked = tuple[CellResult, Shares]

FILE, SUMMARY = "exposed.csv.gz", "exposed.md"
NAMED = 10
HEAD = (
    *("data", "seed", "records", "defenses"),
    *("found under none", "under one or more", "under half or more", "under all"),
)
COLUMNS = ("data", "seed", "record", "defense", "attack", "non_members_above", "found")


@dataclass(frozen=True)
class Exposure:
    """Of one data set and seed: under how many defenses each private target record is found.

    counts[k]: records that the worst attack finds under k of the `defenses`; chance[k]: their expected number, if every
    attack found the share `fpr` of the members, independently. always: names of those that are found under all.
    """

    data: str
    seed: int
    fpr: float
    defenses: tuple[str, ...]
    counts: tuple[int, ...]
    chance: tuple[float, ...]
    always: tuple[str, ...]


def export(store: Store, results: Iterable[CellResult], fpr: float) -> tuple[list[Path], list[Exposure]]:
    """Write exposed.csv.gz, a line for each private record, defense and attack, and its summary exposed.md.

    A record is named by the first 16 hex digits of the digest of its content (`bench.core.dataset.record_keys`) and
    found where at most `fpr` of the non-members score as high. Only membership cells count that were measured in this
    checkout, which stores their answers. Raises UserError where there are none.
    """
    if not 0 < fpr < 1:
        raise UserError(f"a false positive rate lies between 0 and 1, not at {fpr:g}.")
    cells = [(result, found) for result in results if (found := _answers(store, result))]
    if not cells:
        raise UserError(
            f"no membership cell in {store.root} was measured here, and results of single records are stored only "
            "where they were measured: run `bench run` first."
        )
    write(store.root / FILE, _lines(cells, fpr))
    splits: dict[tuple[str, int], list[Attacked]] = {}
    for result, found in cells:
        splits.setdefault((result.data, result.seed), []).append((result, found))
    exposures = [_exposure(*split, attacked, fpr) for split, attacked in splits.items()]
    write(store.root / SUMMARY, _markdown(exposures).encode())
    return [store.root / FILE, store.root / SUMMARY], exposures


def _lines(cells: Iterable[Attacked], fpr: float) -> bytes:
    """The lines of the CSV, compressed as they come: a whole leaderboard has ten million of them."""
    packed = io.BytesIO()
    # the lowest level: higher ones take far longer and save a few per cent; mtime 0: same lines, same bytes
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file,
        io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="") as text,
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
    rows = []
    for one in found:
        k = len(one.defenses)
        starts = (1, max(1, math.ceil(k / 2)), k)
        shares = [f"{sum(one.counts[i:])} (by chance {sum(one.chance[i:]):.1f})" for i in starts]
        rows.append([one.data, str(one.seed), str(sum(one.counts)), str(k), str(one.counts[0]), *shares])
    lines = [
        "# Exposure",
        "",
        "Written by `bench exposure`. A private record counts as found under a defense where the worst attack on it "
        f"leaves at most {found[0].fpr:.3g} of the non-members scoring as high. By chance: the expected number, if "
        "every attack found that share of the members, independently of the others. The records themselves are in "
        f"{FILE}, which is not in git.",
        "",
        *table(HEAD, rows),
        "",
        "Found under all:",
        "",
        *(item(f"{one.data}, seed {one.seed}: {_named(one.always)}") for one in found),
        "",
        SEEDED,
        "",
    ]
    return "\n".join(lines)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (", ".join(names[:NAMED]) or "none") + more


def _answers(store: Store, result: CellResult) -> Shares | None:
    """Names of the members (n,), and for each the share of non-members that score as high."""
    # attacks on public records are about other records, and a release that read no private record exposes none
    if result.game != "membership" or "of=" in result.attack or result.privacy["epsilon"] == 0:
        return None
    found = store.load_answers((result.data, result.defense, result.attack, result.seed))
    if not found or not {"records", "units_members"} <= found.keys():
        return None
    if "value" not in result.metrics[str(result.metrics["headline"])]:
        return None
    if not is_made_of({"units_members": found["units_members"]}, _headline(result)):
        return None
    return [bytes(name).hex() for name in found["records"]], 1 - found["units_members"].astype(np.float64)


def _exposure(data: str, seed: int, cells: Sequence[Attacked], fpr: float) -> Exposure:
    worst: dict[str, Attacked] = {}
    for result, found in cells:
        if result.defense not in worst or _headline(result) > _headline(worst[result.defense][0]):
            worst[result.defense] = result, found
    names = cells[0][1][0]
    times: Counter[str] = Counter()
    for _, (members, above) in worst.values():
        times.update(name for name, share in zip(members, above, strict=True) if share <= fpr)
    k, n = len(worst), len(names)
    counts = Counter(times[name] for name in names)
    chance = tuple(n * math.comb(k, i) * fpr**i * (1 - fpr) ** (k - i) for i in range(k + 1))
    always = tuple(sorted(name for name in names if times[name] == k))
    return Exposure(data, seed, fpr, tuple(sorted(worst)), tuple(counts[i] for i in range(k + 1)), chance, always)


def _headline(result: CellResult) -> float:
    return float(result.metrics[str(result.metrics["headline"])]["value"])
