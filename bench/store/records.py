"""The kinds of stored records: their fields, and the ranges and relations that a stored record must satisfy.

msgspec checks types and ranges while it decodes; `check` of a record checks what holds between its fields.
`bench.store.read_write` is the only reader and writer. `bench.store.differences` has the sixth kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from bench.core.files import file_name
from bench.core.text import interval
from bench.store import figures
from bench.store.figures import Count, Epsilon, Number, Probability, Rate, Seconds

SCHEMA = 3  # of cells
# Folders beside those of the data sets.
CONTROLS, PROBES, SCORES, AUDITS, CODE = "controls", "probes", "scores", "audits", "code"
AUDIT_KINDS = {"one_step": "one step", "whole": "whole training", "black_box": "black box"}
SHARED = tuple(range(1, len(AUDIT_KINDS) + 1))  # how many audits of a row may share its 5 % of error
SEEDED_TRIALS = "every trial is seeded: the noise of none is private to anyone who knows the seed"
SCORE_BOUNDS = {
    "beta_binomial": "every score is an independent trial",
    "clopper_pearson": "the same, with two tails in place of one",
    "gaussian_dp": "the same, and a Gaussian trade-off curve (mechanism='gaussian')",
    "one_run": "every record was included by a fair coin of its own",
}
FPRS = (0.01, 0.001)

Label = Annotated[str, Meta(min_length=1, max_length=2000)]
if TYPE_CHECKING:  # what readers see; msgspec checks the types below
    Figure = dict[str, Any]
    Bounds = Sequence[float]
    Sentences = Sequence[str]
    AuditKind = str
    Headline = str
    Schema = int
else:
    Figure = dict[str, Number | str]
    Bounds = Annotated[list[Epsilon], Meta(min_length=len(SHARED), max_length=len(SHARED))]
    Sentences = list[str]
    AuditKind = Literal["one_step", "whole", "black_box"]
    Headline = Literal["beta_binomial", "clopper_pearson", "gaussian_dp", "one_run"]
    Schema = Literal[3]


class CellResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell: what was run, by which code, and what came out. Numbers are finite; an infinite epsilon is "inf".

    instruction_set: of the processor, as `bench.core.environment.instruction_set` names it; empty in older cells.
    """

    kind: ClassVar[str] = "cell"
    remedy: ClassVar[str] = "run its cell again"

    data: Label
    defense: Label
    attack: Label
    game: Label
    seed: Count
    options: figures.Options
    digest: str
    code: str
    versions: figures.Versions
    machine: str
    device: str
    utility: figures.Utility
    privacy: figures.Privacy
    metrics: figures.Metrics
    seconds: figures.SecondsByPart
    peak_memory_mib: Seconds
    caveats: Sentences
    reproducible: bool = True
    instruction_set: str = ""
    schema: Schema = SCHEMA

    @property
    def place(self) -> tuple[str, ...]:
        """The path of its file below the results."""
        return file_name(self.data), file_name(self.defense), file_name(self.attack), f"{self.seed}.json"

    def check(self) -> None:
        """Raise ValueError where what the leaderboard and the plots read contradicts itself."""
        figures.same_keys("options", self.options, {"data", "defense", "attack"})
        figures.same_keys("seconds", self.seconds, {"defense", "attack"})
        figures.check_utility(self.utility)
        figures.check_privacy(self.privacy)
        figures.check_metrics(self.metrics)


class ControlResult(Struct, frozen=True, forbid_unknown_fields=True):
    """What the controls of one attack found; `red` says in sentences why it should not be trusted, empty where it may.

    positive, null: means over seeds with their intervals, compared with `required_score` and `expected`. baseline: the
    release-free baseline beside the positive control.
    """

    kind: ClassVar[str] = "control"
    folder: ClassVar[str] = CONTROLS
    remedy: ClassVar[str] = "run `bench controls` again"

    attack: Label
    digest: str
    defense: Label
    data: Label
    metric: Label
    required_score: Rate
    positive: Figure
    baseline: Figure
    expected: Rate
    null: Figure
    p_value: Probability
    seeds: Count
    red: tuple[str, ...]

    @property
    def place(self) -> tuple[str, ...]:
        """The path of its file below the results."""
        return place_of_label(ControlResult, self.attack)

    def check(self) -> None:
        """Raise ValueError where a figure lies outside of its interval or was not measured."""
        for name in ("positive", "baseline", "null"):
            figures.check_measured(name, getattr(self, name))

    def __str__(self) -> str:
        found = f"{self.attack}: {self.metric} {_spell(self.positive)} where nothing defends "
        found += f"(required {self.required_score:.3f}, release-free baseline {self.baseline['value']:.3f}), "
        found += f"{_spell(self.null)} where there is nothing to find (chance {self.expected:.3f})"
        return "; ".join([found, *(f"RED {why}" for why in self.red)])


def _spell(figure: Mapping[str, float]) -> str:
    return interval(figure["value"], figure["low"], figure["high"])


class LintFinding(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing wrong with a defense. what: a sentence that says what is wrong and what to do."""

    probe: Label
    what: str


class LintVerdict(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a defense with its options (as a label) and a digest of all that it depends on; no findings: it is clean."""

    kind: ClassVar[str] = "verdict"
    folder: ClassVar[str] = PROBES
    remedy: ClassVar[str] = "lint the defense again with `bench run`"

    defense: Label
    digest: str
    findings: tuple[LintFinding, ...]

    @property
    def place(self) -> tuple[str, ...]:
        """The path of its file below the results."""
        return place_of_label(LintVerdict, self.defense)

    def check(self) -> None:
        """Nothing holds between its fields."""


class AuditFinding(Struct, frozen=True, forbid_unknown_fields=True):
    """What one kind of audit found of a row, claimed `epsilon` ("inf" for infinity) and `delta`.

    lower: bounds on epsilon by how many audits of the row share 5 % of error, 1, 2, ...; most: the same of a perfect
    attack on as many trials. parts: what was tried; of one step also the account and the least `mu`, as `lower` is.
    """

    kind: AuditKind
    epsilon: Epsilon
    delta: figures.Delta
    lower: Bounds
    most: Bounds
    trials: Annotated[int, Meta(ge=2, le=figures.WHOLE)]
    parts: figures.Parts
    seconds: Seconds
    digest: str

    def violated(self, shared: int) -> bool:
        """Whether more is proved than is claimed, of the whole or of one step."""
        steps = (part["mu"][shared - 1] * part["noise_multiplier"] for part in self.parts if "mu" in part)
        return self.lower[shared - 1] > float(self.epsilon) or any(step > 1 + 1e-9 for step in steps)

    def check(self) -> None:
        """Raise ValueError where a bound is above what a perfect attack proves, or a part lacks what is read of it."""
        for low, most in zip(self.lower, self.most, strict=True):
            if not float(low) <= float(most) + figures.TINY or math.isinf(float(low)):
                raise ValueError(f"a lower bound is {low}, above the {most} that a perfect attack proves")
        for part in self.parts:
            figures.check_part(part, len(SHARED))


class AuditedRow(Struct, frozen=True, forbid_unknown_fields=True):
    """All findings of a row, by kind."""

    kind: ClassVar[str] = "audit"
    remedy: ClassVar[str] = "run `bench audit` again"

    defense: Label
    data: Label
    findings: dict[str, AuditFinding]
    reproducible: str = SEEDED_TRIALS

    @property
    def place(self) -> tuple[str, ...]:
        """The path of its file below the results."""
        return AUDITS, file_name(self.data), f"{file_name(self.defense)}.json"

    def check(self) -> None:
        """Raise ValueError where a finding does not stand under its kind or contradicts itself."""
        for kind, one in self.findings.items():
            if kind != one.kind:
                raise ValueError(f"a finding of the kind {one.kind} stands under {kind}")
            one.check()


class ScoreRow(Struct, frozen=True, forbid_unknown_fields=True):
    """The figures of one file of scores.

    bounds: by name, {"value", "most"} or {"not_measurable": why}; headline: one of the names. An infinite epsilon is
    "inf"; tpr: by false positive rate; code: digest of what computed it.
    """

    kind: ClassVar[str] = "score"
    remedy: ClassVar[str] = "run `bench score` again"

    defense: Label
    data: Label
    attack: Label
    utility: Probability | None
    epsilon: Epsilon
    delta: figures.Delta
    confidence: Annotated[float, Meta(ge=0.5, lt=1)]
    held_in: Annotated[int, Meta(ge=2, le=figures.WHOLE)]
    held_out: Annotated[int, Meta(ge=2, le=figures.WHOLE)]
    headline: Headline
    bounds: figures.ByName
    auc: Figure
    tpr: figures.ByName
    code: str

    @property
    def lower(self) -> float:
        """The bound that counts."""
        return float(self.bounds[self.headline].get("value", 0.0))

    @property
    def violated(self) -> bool:
        """Whether the scores prove more than is claimed."""
        return self.lower > float(self.epsilon)

    @property
    def place(self) -> tuple[str, ...]:
        """The path of its file below the results."""
        return SCORES, file_name(self.data), file_name(self.defense), file_name(self.attack), "0.json"

    def check(self) -> None:
        """Raise ValueError where a bound or a rate lacks its parts."""
        figures.same_keys("bounds", self.bounds, SCORE_BOUNDS.keys())
        figures.same_keys("tpr", self.tpr, set(map(str, FPRS)))
        for name, bound in self.bounds.items():
            figures.check_bound(name, bound)
        if "value" not in self.bounds[self.headline]:
            raise ValueError(f"its headline {self.headline} was not measured")
        figures.check_measured("auc", self.auc)
        for fpr, rate in self.tpr.items():
            figures.check_figure(f"{figures.TPR}{fpr}", rate)


Record = CellResult | ControlResult | LintVerdict | AuditedRow | ScoreRow  # each in a file
KINDS: Mapping[str, type[Record]] = {
    one.kind: one for one in (CellResult, ControlResult, LintVerdict, AuditedRow, ScoreRow)
}


def place_of_label(kind: type[ControlResult | LintVerdict], label: str) -> tuple[str, ...]:
    """Where the control of an attack or the verdict on a defense is, below the results."""
    return kind.folder, f"{file_name(label)}.json"
