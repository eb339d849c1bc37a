"""From stored cells to the leaderboard: means over seeds, rows, sections, caveats and notes. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.core.component import missing
from bench.core.notices import SEEDED
from bench.dp.accounting import DELTA_RULE, SELECTED
from bench.games.intervals import over_seeds
from bench.report.epsilon_column import NOT_AUDITED, Claim
from bench.report.leaderboard import Cell, Estimate, Leaderboard, Place, Row, Section, component_name
from bench.store import score_rows

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.records import CellResult
    from bench.store.store import Key, Store

    Seeds = Sequence[tuple[CellResult, bool]]  # results of one cell, each with whether it is fresh
    Failures = Mapping[Key, str]  # by cell (data, defense, attack, seed) the message of an error

WIDTH = 2 * 1.959964  # of a 95 % interval, in standard errors
SIGNED = frozenset({"advantage", "gain", "gain_over_holdout"})  # differences, which may lie below 0
UNRECORDED: Mapping[str, Any] = {"not_measurable": "not recorded"}
PAIRED = frozenset({"gain"})  # differences on the same records


def mean(estimates: Sequence[Mapping[str, Any]], least: float = 0.0, *, between: bool = True) -> Estimate:
    """The mean over seeds of estimates with intervals, cut off at `least` and 1; one seed keeps its own interval."""
    if len(estimates) == 1:
        over: Mapping[str, Any] = estimates[0]
    else:
        # where no standard error is stored, it follows from the 95 % interval
        ses = [one.get("se", (one["high"] - one["low"]) / WIDTH) for one in estimates]
        over = over_seeds([one["value"] for one in estimates], ses, between=between)
    return Estimate(float(over["value"]), max(least, float(over["low"])), min(1.0, float(over["high"])))


def build(
    store: Store,
    registry: Registry | None,
    failed: Mapping[Key, str] = {},
    fresh: Callable[[CellResult], bool] | None = None,
    control: Callable[[str], str | None] = lambda attack: None,
    claim: Callable[[str, str], Claim] = lambda data, defense: NOT_AUDITED,
    data: Collection[str] | None = None,
) -> Leaderboard:
    """The leaderboard of all stored cells, and of the components in the registry that nobody has run yet.

    failed: the error of each cell that failed in the run that has just ended. control: the caveat that an attack's
    controls give. claim: what is known of a row's claim. data: the labels of data sets, by default of all.
    Without a registry only stored cells are shown.
    """
    results = tuple(
        (result, fresh is None or fresh(result))
        for result in sorted(store.results(data), key=lambda r: (r.data, r.game, r.defense, r.attack, r.seed))
    )
    stored: dict[tuple[str, str], list[tuple[CellResult, bool]]] = {}
    for result, is_fresh in results:
        stored.setdefault((result.data, question(result.game, result.attack)), []).append((result, is_fresh))
    failures: dict[tuple[str, str], dict[Key, str]] = {}
    for key, why in failed.items():
        failures.setdefault((key[0], question(_game(registry, key[2]), key[2])), {})[key] = why
    sections = tuple(
        _section(*place, stored.get(place, []), failures.get(place, {}), registry, control, claim)
        for place in sorted({*stored, *failures})
    )
    notes = _notes([result for result, _ in results])
    return Leaderboard(sections, notes, results, (), score_rows.every(store), claim)


def limited(board: Leaderboard, wanted: Collection[Place]) -> Leaderboard:
    """The leaderboard of these sections alone, with notes on their data sets' cells."""
    data = {label for label, _ in wanted}
    results = tuple(one for one in board.results if one[0].data in data)
    sections = tuple(one for one in board.sections if (one.data, one.game.split()[0]) in wanted)
    return replace(board, sections=sections, results=results, notes=_notes([result for result, _ in results]))


def _game(registry: Registry | None, attack: str) -> str:
    """The game that an attack plays, "unknown" where the attack is not registered."""
    component = registry.attacks.get(component_name(attack)) if registry else None
    return component.game.name if component and component.game else "unknown"


def question(game: str, attack: str) -> str:
    """The game and, where the attack's option `of` says so, which records other than the private ones it is about."""
    of = [word.partition("=")[2] for word in attack.split(",") if word.startswith("of=")]
    return f"{game} of {of[0]} records" if of else game


def _section(
    data: str,
    game: str,
    stored: Seeds,
    failed: Failures,
    registry: Registry | None,
    control: Callable[[str], str | None],
    claim: Callable[[str, str], Claim],
) -> Section:
    seeds: dict[tuple[str, str], list[tuple[CellResult, bool]]] = {}
    for result, is_fresh in stored:
        seeds.setdefault((result.defense, result.attack), []).append((result, is_fresh))
    errors: dict[tuple[str, str], dict[int, str]] = {}
    for key, why in failed.items():
        errors.setdefault((key[1], key[2]), {})[key[3]] = why
    defenses, attacks = _shown({*seeds, *errors}, game, registry)
    rows = [
        _row(
            defense,
            tuple(
                cell(
                    attack,
                    seeds.get((defense, attack), ()),
                    errors.get((defense, attack), {}),
                    _missing(registry, defense, attack, data),
                )
                for attack in attacks
            ),
            claim(data, defense),
            undefended=_is_undefended(registry, defense),
        )
        for defense in defenses
    ]
    rows.sort(key=_order)
    metrics = stored[0][0].metrics if stored else {"headline": "leakage", "chance": 0.0}
    return Section(
        data,
        game,
        str(metrics["headline"]),
        float(str(metrics["chance"])),
        attacks,
        tuple(rows),
        _baseline([result for result, is_fresh in stored if is_fresh]),
        tuple(dict.fromkeys(caveat for row in rows for cell in row.cells for caveat in cell.caveats)),
        _column_caveats(rows, registry, control),
    )


def _shown(
    pairs: set[tuple[str, str]], game: str, registry: Registry | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The defenses and attacks of a section: those of its cells, and the registered ones of which it has no cell."""
    defenses, attacks = {defense for defense, _ in pairs}, {attack for _, attack in pairs}
    # a section about public or unseen records shows only what was requested
    if registry and not any("of=" in attack for attack in attacks):
        # a component that was run with other options needs no empty row under its bare name
        defenses |= set(registry.defenses) - {component_name(label) for label in defenses}
        players = {name for name in registry.attacks if _game(registry, name) == game}
        attacks |= players - {component_name(label) for label in attacks}
    return tuple(sorted(defenses)), tuple(sorted(attacks))


def _column_caveats(
    rows: Sequence[Row], registry: Registry | None, control: Callable[[str], str | None]
) -> tuple[str, ...]:
    """Why a whole row or column proves little.

    A defense that claims DP must pass its probes. An attack must pass its controls and work on an undefended row before
    its failure on another row is evidence for the defense. And where a game's reference attack was not run, the worst
    attack shown may be weaker than that one.
    """
    played = dict.fromkeys(cell.attack for row in rows for cell in row.cells if cell.headline)
    claims = {row.defense: row.claim.caveat for row in rows if row.seeds}
    found = _by_sentence({attack: control(attack) or "" for attack in played})
    for attack in played:
        component = registry.attacks.get(component_name(attack)) if registry else None
        reference = component.game.reference_attack if component and component.game else ""
        if reference and not any(component_name(other) == reference for other in played):
            found.append(f"`{reference}` was not run here: the worst attack shown may be weaker than that one.")
            break
    return (*_by_sentence(claims), *found, *_undefended(rows, tuple(played)))


def _by_sentence(sentences: Mapping[str, str]) -> list[str]:
    """Each sentence once, after the names that it is about; names without a sentence are left out."""
    names: dict[str, list[str]] = {}
    for name, sentence in sentences.items():
        if sentence:
            names.setdefault(sentence, []).append(name)
    return [f"{', '.join(about)}: {sentence}" for sentence, about in names.items()]


def _undefended(rows: Sequence[Row], played: Sequence[str]) -> tuple[str, ...]:
    undefended = [row for row in rows if row.undefended]
    cells = [cell for row in undefended for cell in row.cells if cell.headline]
    if not cells and not any(cell.above_baseline for row in rows for cell in row.cells):
        return ("no undefended row was measured: without one nobody knows whether these attacks work at all.",)
    names = " or ".join(f"`{row.defense}`" for row in undefended if row.seeds)
    # whether an attack works that was run on no undefended row is for its controls to say
    failing = {cell.attack for cell in cells} - {cell.attack for cell in cells if cell.above_baseline}
    return tuple(
        f"{attack} does not succeed on {names} beyond noise: here it proves nothing for any defense."
        for attack in played
        if attack in failing
    )


def _missing(registry: Registry | None, defense: str, attack: str, data: str) -> tuple[str, ...]:
    """What the attack needs and neither the defense publishes nor the data have."""
    if not registry:
        return ()
    one, other = registry.defenses.get(component_name(defense)), registry.attacks.get(component_name(attack))
    records = registry.data.get(component_name(data))
    return missing(other, one, records) if one and other and records else ()


def cell(attack: str, seeds: Seeds, failed: Mapping[int, str] = {}, missing: tuple[str, ...] = ()) -> Cell:
    """One defense, attack and data set over its seeds. failed: by seed the error; missing: accesses that it lacks."""
    used = tuple(result for result, is_fresh in seeds if is_fresh)
    caveats = []
    for why in dict.fromkeys(failed[seed] for seed in sorted(failed)):
        lost = [str(seed) for seed in sorted(failed) if failed[seed] == why]
        caveats.append(f"seed {', '.join(lost)} failed: {why}")
    if not used:
        if missing:
            return Cell(attack, "n/a: " + ", ".join(missing))
        state = "failed" if failed else "stale" if seeds else "not run"
        return Cell(attack, state, caveats=tuple(caveats))
    if len(used) < len(seeds):
        caveats.append(f"{len(seeds) - len(used)} of {len(seeds)} seeds stale and left out")
    caveats += [caveat for result in used for caveat in result.caveats]
    metrics = used[0].metrics
    names = [
        name for name, one in metrics.items() if isinstance(one, dict) and {"value", "not_measurable"} & one.keys()
    ]
    # Attack and baseline answer about the same records, so the gain is a paired difference on these very splits;
    # whether the attack works on other splits, too, is for the interval of its headline estimate to say.
    estimates = {name: _estimate(used, name, between=name not in PAIRED) for name in names}
    headline = estimates[str(metrics["headline"])]
    if isinstance(headline, str):
        caveats.append(headline)
    state = "not measurable" if isinstance(headline, str) else "number"
    return Cell(attack, state, used, estimates, tuple(dict.fromkeys(caveats)))


def _estimate(results: Sequence[CellResult], metric: str, *, between: bool = True) -> Estimate | str:
    """The mean over the seeds on which the metric could be measured, or why it could not on any."""
    found = [one if isinstance(one := result.metrics.get(metric), dict) else UNRECORDED for result in results]
    measured = [one for one in found if "not_measurable" not in one]
    least = -1.0 if metric in SIGNED or any(one["low"] < 0 for one in measured) else 0.0
    return mean(measured, least, between=between) if measured else f"not measurable: {found[0]['not_measurable']}"


def _is_undefended(registry: Registry | None, defense: str) -> bool:
    component = registry.defenses.get(component_name(defense)) if registry else None
    return component is not None and component.undefended


def _row(defense: str, cells: tuple[Cell, ...], claim: Claim, *, undefended: bool) -> Row:
    used = [result for cell in cells for result in cell.results]
    if not used:
        return Row(defense, "-", None, None, "-", cells, 0, claim=claim, undefended=undefended)
    claims = [result.privacy for result in used]
    epsilon, delta, selected = (
        max(float(one[name]) for one in claims) for name in ("epsilon", "delta", "epsilon_selected")
    )
    sampler = "; ".join(dict.fromkeys(str(one["sampler"]) for one in claims))
    seeds = len({result.seed for result in used})
    return Row(
        defense, utility(used), epsilon, delta, sampler, cells, seeds, selected, claim=claim, undefended=undefended
    )


def utility(results: Sequence[CellResult]) -> Estimate | str:
    """The mean accuracy over seeds. All attacks on one seed had the same release, so each seed counts once."""
    by_seed = {result.seed: result.utility for result in results}
    measured = [one["accuracy"] for one in by_seed.values() if "accuracy" in one]
    return mean(measured) if measured else "not measurable"


def _order(row: Row) -> tuple[bool, float, float, str]:
    """Least leakage first, then the larger utility; rows without a number last."""
    worst = row.worst_headline
    utility = row.utility.value if isinstance(row.utility, Estimate) else -1.0
    return worst is None, worst.value if worst else 0.0, -utility, row.defense


def _baseline(results: Sequence[CellResult]) -> Estimate | None:
    """The release-free baseline over seeds; within a seed its cells are averaged: they are about the same records."""
    seeds: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        if "value" in result.metrics.get("baseline", {}):
            seeds.setdefault(result.seed, []).append(result.metrics["baseline"])
    each = [
        {key: sum(one[key] for one in found) / len(found) for key in ("value", "low", "high")}
        for _, found in sorted(seeds.items())
    ]
    return mean(each) if each else None


def _notes(results: Sequence[CellResult]) -> tuple[str, ...]:
    public: dict[str, set[str]] = {}
    for result in results:
        for fact in result.privacy["public_knowledge"]:
            public.setdefault(str(fact), set()).add(component_name(result.defense))
    facts = (f"{fact} ({', '.join(sorted(names))})" for fact, names in sorted(public.items()))
    return (
        "Utility: accuracy on the holdout records. A cell: what the attack reaches; larger leaks more.",
        "Estimates are means over seeds with 95 % intervals.",
        "Rank: rows of one rank do not differ beyond noise in their worst attack, or in their utility, on the same "
        "targets (5 % for a whole table).",
        f"{DELTA_RULE}.",
        f"Neighbouring relation: {_join(str(result.privacy['relation']) for result in results)}.",
        "Options were selected by hand, which no epsilon here covers. At equal claims a column shows what epsilon "
        f"would be, had they been selected privately as the best of {SELECTED} runs on average (Papernot and Steinke "
        "2022).",
        "Sampler: as each row says; the accountant assumes that very sampler.",
        f"Public knowledge: {'; '.join(facts) or 'none'}.",
        SEEDED,
    )


def _join(words: Iterable[str]) -> str:
    return "; ".join(sorted(set(words))) or "none"
