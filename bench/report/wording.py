"""What the terminal and the Markdown pages say alike of a row, a section and the whole leaderboard."""

from __future__ import annotations

from bench.core.text import claimed_epsilon
from bench.report.leaderboard import Row, Section

AUDITED = "audited epsilon"
BASELINE = "release-free baseline"
BEATS_CHANCE = f"beats chance and the {BASELINE} beyond noise."
EMPTY = "Nothing is stored yet: `bench run` measures the first cells."
SUBMITTED = "Submitted scores"
TITLES = {"auc": "AUC", "tpr_at_fpr_0.01": "TPR at 1 % FPR", "tpr_at_fpr_0.001": "TPR at 0.1 % FPR"}


def head(section: Section) -> list[str]:
    """The columns of a section's table."""
    claim = ("utility", "epsilon", AUDITED, "delta", "sampler")
    return ["rank", "defense", *claim, *section.attacks, "worst attack", "seeds"]


def title(metric: str) -> str:
    """A metric as a reader knows it."""
    return TITLES.get(metric, metric.replace("_", " "))


def rank(row: Row) -> str:
    """The rank, "-" where the row has none."""
    return "-" if row.rank is None else str(row.rank)


def epsilon(value: float | None) -> str:
    """An epsilon that is claimed, "-" where nothing was measured."""
    return "-" if value is None else claimed_epsilon(value)


def delta(value: float | None) -> str:
    """The delta of a claim, "-" where nothing was measured."""
    return "-" if value is None else f"{value:g}"


def worst(row: Row) -> str:
    """The largest headline value and its attack, "-" where the row holds no number."""
    cell = row.worst
    return f"{cell.headline.value:.3f} {cell.attack}" if cell and cell.headline else "-"


def metric_line(section: Section) -> str:
    """What the cells of a section show, what that is by chance, and what it is without any release."""
    chance = f"{title(section.headline)}, by chance {section.chance:.3g}"
    return f"Cells: {chance}. {BASELINE.capitalize()}: {section.baseline or 'not measured'}"
