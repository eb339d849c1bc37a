"""Values beyond their limits and more records than a data set has are refused when selected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from conftest import components

from bench.core.component import Choice, Component, Option, dataset, text
from bench.core.component import defense as declare
from bench.core.errors import UserError
from bench.runner.registry import Registry
from bench.runner.selection import choose, documented, sweep

SIZES = ("private", "holdout", "public")
SHIPPED = components().components


@pytest.mark.parametrize("component", SHIPPED, ids=lambda one: one.name)
def test_each_option_of_what_ships_is_documented_and_its_default_is_allowed(component: Component) -> None:
    declared = documented(component)
    assert component.options.keys() == declared.keys()
    for name, option in declared.items():
        assert len(option.meaning) > 5, name
        assert option.allows(component.options[name]), name


@pytest.mark.parametrize("component", components().data.values(), ids=lambda one: one.name)
def test_sizes_of_data_sets_are_documented_and_fit_their_records(component: Component) -> None:
    assert set(SIZES) <= component.described.keys()
    assert component.records is not None
    assert sum(int(component.options[name]) for name in SIZES) <= component.records
    least = {name: component.described[name].at_least for name in SIZES}
    assert least == dict.fromkeys(SIZES, 1)


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "randhie"])
def test_the_declared_number_of_records_is_that_of_the_records(name: str) -> None:
    """All records can be selected, and not one more."""
    from bench.core.dataset import DataLocation
    from bench.core.randomness import stream

    component = components().data[name]
    assert component.records is not None
    every = {"private": component.records - 500, "holdout": 200, "public": 300}
    split = component.function(DataLocation(), stream(0, "split", name), **{**component.options, **every})
    assert len(split.private) == every["private"]
    [selected] = choose(components(), "data", ",".join([name, *(f"{k}={v}" for k, v in every.items())]))
    assert selected.settings["private"] == every["private"]
    with pytest.raises(
        UserError, match=f"{name} has {component.records} distinct records, but .*: choose smaller parts"
    ):
        choose(components(), "data", f"{name},private={every['private'] + 1},holdout=200,public=300")


@pytest.mark.parametrize(
    ("kind", "words", "why"),
    [
        ("attack", "lira,shadows=1", "shadows=1 of attack 'lira' must be at least 2"),
        ("attack", "rmia,a=1.5", "a=1.5 of attack 'rmia' must be at least 0 and at most 1"),
        ("attack", "rmia,gamma=inf", "above 0 and below inf"),
        ("attack", "decoder,hidden=64x0", "each number in hidden=64x0 .* must be at least 1"),
        ("attack", "decoder,method=serached", "did you mean 'searched'"),
        ("attack", "membership,samples=0", "samples=0 of attack 'domias' must be at least 1"),
        ("attack", "lira,of=publik", "did you mean 'public'"),
        ("defense", "none,steps=-5", "steps=-5 of defense 'none' must be at least 1"),
        ("defense", "dp_vaegm,epsilon=0", "epsilon=0 of defense 'dp_vaegm' must be above 0"),
        ("data", "digits,private=0", "private=0 of data 'digits' must be at least 1"),
        ("data", "digits,private=5000", "digits has 1797 distinct records"),
        ("data", "mnist,private=60000", "mnist has 70000 distinct records"),
        ("data", "att_faces,size=57", "size=57 of data 'att_faces' is none of its values: known: 112, 28, 56"),
        ("data", "location30,attribute=446", "must be at least 0 and at most 445"),
        ("data", "randhie,attribute=helth", "did you mean 'health'"),
    ],
)
def test_a_value_that_no_run_could_use_is_refused_when_selected(kind: Any, words: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        choose(components(), kind, words)


def test_a_file_of_records_has_limits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("a,label\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    assert choose(components(), "data", "mine.csv,private=20,holdout=10,public=10")
    with pytest.raises(UserError, match=r"mine\.csv has 40 distinct records"):
        choose(components(), "data", "mine.csv,private=21,holdout=10,public=10")
    with pytest.raises(UserError, match=r"private=-1 of data 'mine\.csv' must be at least 0"):
        choose(components(), "data", "mine.csv,private=-1")


def test_a_sweep_stays_within_the_limits() -> None:
    @declare("d", publishes={"predict"})
    def d(
        private: Any, public: Any, *, seed: int, epsilon: Annotated[float, Option("budget", at_most=10)] = 8.0
    ) -> Any:
        """A defense."""

    selected = [Choice(d.component)]  # type: ignore[attr-defined]
    assert [one.label for one in sweep(selected, (1.0,))] == ["d,epsilon=1"]
    with pytest.raises(UserError, match="epsilon=11 of defense 'd' must be at most 10"):
        sweep(selected, (11.0,))


def test_an_epsilon_that_is_not_documented_is_above_0_all_the_same() -> None:
    @declare("d", publishes={"predict"})
    def d(private: Any, public: Any, *, seed: int, epsilon: float = 8.0, steps: int = 1) -> Any:
        """A defense."""

    registry = Registry({"d": d.component}, {}, {}, [])  # type: ignore[attr-defined]
    assert choose(registry, "defense", "d,epsilon=inf,steps=-1"), "steps has no declared range"
    with pytest.raises(UserError, match="epsilon=0 of defense 'd' must be above 0"):
        choose(registry, "defense", "d,epsilon=0")


def test_a_data_set_that_declares_no_number_of_records_has_no_limit() -> None:
    @dataset("many")
    def many(where: Any, rng: Any, *, private: int = 3) -> Any:
        """Many."""

    registry = Registry({}, {}, {"many": many.component}, [])  # type: ignore[attr-defined]
    assert choose(registry, "data", "many,private=10000000")


@pytest.mark.parametrize("component", SHIPPED, ids=lambda one: one.name)
def test_values_just_outside_of_a_limit_are_refused(component: Component) -> None:
    """Each declared limit is enforced, whatever its kind."""
    kind = component.kind
    for name, option in component.described.items():
        default = component.options[name]
        outside = [limit - 1 for limit in (option.at_least, option.above) if limit is not None]
        outside += [limit for limit in (option.above,) if limit is not None]
        outside += [limit + 1 for limit in (option.at_most,) if limit is not None]
        outside += [limit for limit in (option.below,) if limit is not None]
        for value in outside:
            word = text(type(default)(value)) if isinstance(default, int | float) else text(int(value))
            with pytest.raises(UserError, match=name):
                choose(components(), kind, f"{component.name},{name}={word}")
