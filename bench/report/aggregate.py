"""What the stored cells say about each defense, worked out without drawing anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.component import missing
from bench.core.notices import SEEDED
from bench.dp.accounting import DELTA_RULE, SELECTED
from bench.games.intervals import over_seeds
from bench.report.epsilon_column import NOTHING, Claim
from bench.report.leaderboard import UNDEFENDED, Board, Cell, Figure, Row, Section, name_of
from bench.store import score_rows

if TYPE_CHECKING:
    from bench.runner.registry import Registry
    from bench.store.records import CellResult
    from bench.store.store import Key, Store

WIDTH = 2 * 1.959964  # a 95 % interval in standard errors
SIGNED = frozenset({"advantage", "gain", "gain_over_holdout"})  # no shares, whose intervals end at 0
PAIRED = frozenset({"gain"})  # differences on the same records


def mean(figures: Sequence[Mapping[str, Any]], least: float = 0.0, *, between: bool = True) -> Figure:
    """The mean over seeds of figures with intervals, kept within `least` and 1; one seed keeps its own interval."""
    if len(figures) == 1:
        over: Mapping[str, Any] = figures[0]
    else:
        # a figure that brings no standard error has it read off its 95 % interval
        ses = [figure.get("se", (figure["high"] - figure["low"]) / WIDTH) for figure in figures]
        over = over_seeds([figure["value"] for figure in figures], ses, between=between)
    return Figure(float(over["value"]), max(least, float(over["low"])), min(1.0, float(over["high"])))


def build(
    store: Store,
    registry: Registry | None,
    failed: Mapping[Key, str] = {},
    fresh: Callable[[CellResult], bool] | None = None,
    control: Callable[[str], str | None] = lambda attack: None,
    claim: Callable[[str, str], Claim] = lambda data, defense: NOTHING,
) -> Board:
    """The board of all that is stored, and of what the registry knows and nobody has run yet.

    `failed` gives the message of each cell (data, defense, attack, seed) that failed just now; `control` what must be
    said of an attack because of its controls, `claim` what is known of a row's claim. Without a registry only stored
    cells are shown.
    """
    results = tuple(
        (result, fresh is None or fresh(result))
        for result in sorted(store.results(), key=lambda r: (r.data, r.game, r.defense, r.attack, r.seed))
    )
    where: dict[tuple[str, str], list[tuple[CellResult, bool]]] = {
        (data, question(_game(registry, attack), attack)): [] for data, _, attack, _ in failed
    }
    for result, new in results:
        where.setdefault((result.data, question(result.game, result.attack)), []).append((result, new))
    sections = tuple(_section(*place, where[place], registry, failed, control, claim) for place in sorted(where))
    return Board(sections, _notes([result for result, _ in results]), results, (), score_rows.every(store), claim)


def _game(registry: Registry | None, attack: str) -> str:
    """The game that an attack plays, "unknown" where nobody registered the attack."""
    component = registry.attacks.get(name_of(attack)) if registry else None
    return component.game.name if component and component.game else "unknown"


def question(game: str, attack: str) -> str:
    """The game and, in the label of an attack, whose records it asks about where these are not the private ones."""
    of = [word.partition("=")[2] for word in attack.split(",") if word.startswith("of=")]
    return f"{game} of {of[0]} records" if of else game


def _section(
    data: str,
    game: str,
    here: Sequence[tuple[CellResult, bool]],
    registry: Registry | None,
    failed: Mapping[Key, str],
    control: Callable[[str], str | None],
    claim: Callable[[str, str], Claim],
) -> Section:
    seeds: dict[tuple[str, str], list[tuple[CellResult, bool]]] = {}
    for result, new in here:
        seeds.setdefault((result.defense, result.attack), []).append((result, new))
    bad = {
        key: why for key, why in failed.items() if key[0] == data and question(_game(registry, key[2]), key[2]) == game
    }
    defenses = {result.defense for result, _ in here} | {key[1] for key in bad}
    attacks = {result.attack for result, _ in here} | {key[2] for key in bad}
    if registry and not any("of=" in attack for attack in attacks):  # of a special question only what was asked
        # what is known under any options needs no second, empty line under its own
        defenses |= set(registry.defenses) - {name_of(label) for label in defenses}
        playing = {name for name in registry.attacks if _game(registry, name) == game}
        attacks |= playing - {name_of(label) for label in attacks}
    columns = tuple(sorted(attacks))
    rows = []
    for defense in defenses:
        cells = []
        for attack in columns:
            wrong = {key[3]: why for key, why in bad.items() if key[1:3] == (defense, attack)}
            measured = seeds.get((defense, attack), ())
            cells.append(cell(attack, measured, wrong, _missing(registry, defense, attack, data)))
        rows.append(_row(defense, tuple(cells), claim(data, defense)))
    rows.sort(key=_order)
    caveats = tuple(dict.fromkeys(caveat for row in rows for cell in row.cells for caveat in cell.caveats))
    baseline = _baseline([result for result, new in here if new])
    metrics = here[0][0].metrics if here else {"headline": "leakage", "chance": 0.0}
    kind = str(metrics["headline"]), float(str(metrics["chance"]))
    return Section(data, game, *kind, columns, tuple(rows), baseline, caveats, _column_caveats(rows, registry, control))


def _column_caveats(
    rows: Sequence[Row], registry: Registry | None, control: Callable[[str], str | None]
) -> tuple[str, ...]:
    """What makes a whole row or column prove little.

    A defense that claims DP must pass its probes. An attack must pass its controls and show where nothing defends
    before any defense is praised for withstanding it; and where the baseline was not run, nobody knows whether the
    worst attack shown is worse than that.
    """
    played = dict.fromkeys(cell.attack for row in rows for cell in row.cells if cell.found)
    claims = {row.defense: row.claim.caveat for row in rows if row.seeds}
    found = _by_sentence({attack: control(attack) or "" for attack in played})
    for attack in played:
        component = registry.attacks.get(name_of(attack)) if registry else None
        reference_attack = component.game.reference_attack if component and component.game else ""
        if reference_attack and not any(name_of(other) == reference_attack for other in played):
            found.append(f"`{reference_attack}` was not run here: the worst attack shown may be milder than that one.")
            break
    return (*_by_sentence(claims), *found, *_undefended(rows, tuple(played)))


def _by_sentence(said: Mapping[str, str]) -> list[str]:
    """Each sentence once, after the names that it is said of; nothing of whom nothing is said."""
    return [
        f"{', '.join(name for name in said if said[name] == why)}: {why}" for why in dict.fromkeys(said.values()) if why
    ]


def _undefended(rows: Sequence[Row], played: Sequence[str]) -> tuple[str, ...]:
    cells = [cell for row in rows if name_of(row.defense) in UNDEFENDED for cell in row.cells if cell.found]
    names = " or ".join(f"`{row.defense}`" for row in rows if name_of(row.defense) in UNDEFENDED and row.seeds)
    if not cells and not any(cell.above_baseline for row in rows for cell in row.cells):
        return ("nothing undefended was measured: without it nobody knows whether these attacks work at all.",)
    shown = {cell.attack for cell in cells if cell.above_baseline}
    tried = {cell.attack for cell in cells}  # of the others, what they can do where nothing defends is their control's
    return tuple(
        f"{attack} does not show on {names} beyond noise: here it proves nothing for any defense."
        for attack in played
        if attack in tried - shown
    )


def _missing(registry: Registry | None, defense: str, attack: str, data: str) -> tuple[str, ...]:
    """What the attack needs and neither the defense publishes nor the data have."""
    if not registry:
        return ()
    one, other = registry.defenses.get(name_of(defense)), registry.attacks.get(name_of(attack))
    records = registry.data.get(name_of(data))
    return missing(other, one, records) if one and other and records else ()


def cell(
    attack: str,
    seeds: Sequence[tuple[CellResult, bool]],
    failed: Mapping[int, str] = {},
    missing: tuple[str, ...] = (),
) -> Cell:
    """The seeds of one defense, attack and data set as one cell; each result comes with whether it is fresh."""
    used = tuple(result for result, new in seeds if new)
    caveats = []
    for why in dict.fromkeys(failed[seed] for seed in sorted(failed)):
        seeds_lost = [str(seed) for seed in sorted(failed) if failed[seed] == why]
        caveats.append(f"seed {', '.join(seeds_lost)} failed: {why}")
    if not used:
        if missing:
            return Cell(attack, "n/a: " + ", ".join(missing))
        state = "failed" if failed else "stale" if seeds else "not run"
        return Cell(attack, state, caveats=tuple(caveats))
    if len(used) < len(seeds):
        caveats.append(f"{len(seeds) - len(used)} of {len(seeds)} seeds stale and left out")
    caveats += [caveat for result in used for caveat in result.caveats]
    shown = used[0].metrics
    names = [name for name, one in shown.items() if isinstance(one, dict) and {"value", "not_measurable"} & one.keys()]
    # Both answered about the same records, so the gain is a paired difference on these very splits; whether the
    # attack works on other splits too is what the interval of its headline figure says.
    figures = {name: _figure(used, name, between=name not in PAIRED) for name in names}
    headline = figures[str(shown["headline"])]
    if isinstance(headline, str):
        caveats.append(headline)
    state = "not measurable" if isinstance(headline, str) else "number"
    return Cell(attack, state, used, figures, tuple(dict.fromkeys(caveats)))


def _figure(results: Sequence[CellResult], key: str, *, between: bool = True) -> Figure | str:
    """The mean over the seeds where the figure could be measured, or why it could not on any."""
    found = [result.metrics.get(key, {"not_measurable": "not recorded"}) for result in results]
    measured = [figure for figure in found if "not_measurable" not in figure]
    least = -1.0 if key in SIGNED or any(figure["low"] < 0 for figure in measured) else 0.0
    return mean(measured, least, between=between) if measured else f"not measurable: {found[0]['not_measurable']}"


def _row(defense: str, cells: tuple[Cell, ...], audited: Claim) -> Row:
    used = [result for cell in cells for result in cell.results]
    if not used:
        return Row(defense, "-", "-", "-", "-", cells, 0, claim=audited)
    claims = [result.privacy for result in used]
    epsilon = max(float(claim["epsilon"]) for claim in claims)
    delta = max(float(claim["delta"]) for claim in claims)
    sampler = "; ".join(dict.fromkeys(str(claim["sampler"]) for claim in claims))
    selected = spell_epsilon(max(float(claim["epsilon_selected"]) for claim in claims))
    seeds = len({result.seed for result in used})
    said = spell_epsilon(epsilon), f"{delta:g}", sampler
    return Row(defense, utility(used), *said, cells, seeds, selected, claim=audited)


def utility(results: Sequence[CellResult]) -> Figure | str:
    """The mean accuracy over seeds: every attack on one seed met the same release, so one utility a seed counts."""
    by_seed = {result.seed: result.utility for result in results}
    measured = [found["accuracy"] for found in by_seed.values() if "accuracy" in found]
    return mean(measured) if measured else "not measurable"


def spell_epsilon(epsilon: float) -> str:
    """An epsilon with two digits, rounded up: a claim is never rounded in its own favour."""
    return "inf" if math.isinf(epsilon) else f"{math.ceil(round(epsilon * 100, 6)) / 100:.2f}"


def _order(row: Row) -> tuple[bool, float, float, str]:
    """Least leakage first, the more useful of equals first, rows without a number last."""
    found = row.worst.found if row.worst else None
    utility = row.utility.value if isinstance(row.utility, Figure) else -1.0
    return found is None, found.value if found else 0.0, -utility, row.defense


def _baseline(results: Sequence[CellResult]) -> Figure | None:
    """The blind answer over seeds; within a seed the cells are averaged, as they judge the same records."""
    seeds: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        if "value" in result.metrics.get("baseline", {}):
            seeds.setdefault(result.seed, []).append(result.metrics["baseline"])
    each = [
        {key: sum(figure[key] for figure in found) / len(found) for key in ("value", "low", "high")}
        for _, found in sorted(seeds.items())
    ]
    return mean(each) if each else None


def _notes(results: Sequence[CellResult]) -> tuple[str, ...]:
    public: dict[str, set[str]] = {}
    for result in results:
        for fact in result.privacy["public_knowledge"]:
            public.setdefault(str(fact), set()).add(name_of(result.defense))
    facts = (f"{fact} ({', '.join(sorted(names))})" for fact, names in sorted(public.items()))
    return (
        "Utility: accuracy on the holdout records. A cell: what the attack reaches; larger leaks more.",
        "Figures are means over seeds with 95 % intervals.",
        "Rank: rows of one rank do not differ beyond noise in their worst attack, or in their utility, on the same "
        "targets (5 % for a whole table).",
        f"{DELTA_RULE}.",
        f"Neighbouring relation: {_join(str(result.privacy['relation']) for result in results)}.",
        "Options were chosen by hand, which no epsilon here covers. At equal claims it is said what epsilon would be "
        f"had they been chosen privately as the best of {SELECTED} runs on average (Papernot and Steinke 2022).",
        "Sampler: as each row says; the accountant assumes that very sampler.",
        f"Assumed public: {'; '.join(facts) or 'nothing'}.",
        SEEDED,
    )


def _join(words: Iterable[str]) -> str:
    return "; ".join(sorted(set(words))) or "none"
