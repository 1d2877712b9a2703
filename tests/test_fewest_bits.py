"""Does the search find few bits that meet the wish, and does it say truly what it tried?"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

import xaisim
from xaisim.api import attribute
from xaisim.bits import moved_bits
from xaisim.cli import main
from xaisim.config import UserError
from xaisim.experiment import Experiment, prepare
from xaisim.metrics import spearman, sqnr_db
from xaisim.models import load_model
from xaisim.models.images import calibration_batch, test_scene
from xaisim.numerics.fewest import fewest
from xaisim.numerics.formats import Numerics, load_numerics
from xaisim.report.bits import FoundBits, numerics_yaml

test_scene.__test__ = False  # type: ignore[attr-defined]  # a function of the package, not a test

# The search itself, on noise that is known --------------------------------------------------------------------------


class Noise:
    """Each class adds its own noise, a quarter of it per bit more: 10·log10(1 / Σ a·4^−bits) is what is measured."""

    def __init__(self, amplitudes: dict[str, float], wish_db: float) -> None:
        self.amplitudes, self.wish_db = amplitudes, wish_db
        self.tried: list[tuple[int, ...]] = []

    def holds(self, widths: dict[str, int]) -> bool:
        noise = sum(a * 4.0 ** -widths[name] for name, a in self.amplitudes.items())
        return -10 * math.log10(noise) >= self.wish_db

    def meets(self, widths: dict[str, int]) -> bool:
        self.tried.append(tuple(widths.values()))
        return self.holds(widths)


classes = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(0.1, 100), min_size=n, max_size=n), st.lists(st.floats(0.01, 1000), min_size=n, max_size=n)
    )
)


@given(drawn=classes, wish=st.floats(5, 90))
def test_what_is_found_meets_the_wish_and_no_class_can_do_with_a_bit_less(drawn: Any, wish: float) -> None:
    names = "abcde"[: len(drawn[0])]
    noise = Noise(dict(zip(names, drawn[0], strict=True)), wish)
    most, saving = dict.fromkeys(names, 16), dict(zip(names, drawn[1], strict=True))
    found = fewest(most, noise.meets, saving)
    assert (found is None) == (not noise.holds(most))
    assert len(noise.tried) == len(set(noise.tried)), "a point is tried twice"
    assert len(noise.tried) <= 45
    if found is None:
        return
    assert noise.holds(found)
    for name in names:
        assert found[name] == 2 or not noise.holds({**found, name: found[name] - 1})


@given(drawn=classes, wish=st.floats(5, 90))
def test_it_costs_little_more_than_the_best_of_all_points(drawn: Any, wish: float) -> None:
    assume(len(drawn[0]) <= 3)
    names = "abc"[: len(drawn[0])]
    noise = Noise(dict(zip(names, drawn[0], strict=True)), wish)
    saving = dict(zip(names, drawn[1], strict=True))
    found = fewest(dict.fromkeys(names, 16), noise.meets, saving)
    assume(found is not None)
    assert found is not None
    points = (dict(zip(names, bits, strict=True)) for bits in itertools.product(range(2, 17), repeat=len(names)))
    best = min(sum(saving[n] * p[n] for n in names) for p in points if noise.holds(p))
    assert sum(saving[n] * found[n] for n in names) <= 1.25 * best


@given(seed=st.integers(0, 9999), count=st.integers(1, 4))
def test_a_measure_that_is_not_monotone_ends_in_a_point_that_meets_the_wish(seed: int, count: int) -> None:
    most = dict.fromkeys("abcd"[:count], 9)

    def meets(widths: dict[str, int]) -> bool:
        chance = np.random.default_rng([seed, *widths.values()]).random()
        return widths == most or chance < sum(widths.values()) / (9 * count)

    found = fewest(most, meets, dict.fromkeys(most, 1.0))
    assert found is not None
    assert meets(found)
    assert all(2 <= bits <= 9 for bits in found.values())


def test_the_class_that_moves_the_most_bits_gets_the_fewest() -> None:
    noise = Noise({"cheap": 1.0, "dear": 1.0}, 40.0)
    found = fewest({"cheap": 16, "dear": 16}, noise.meets, {"cheap": 1.0, "dear": 1e6})
    assert found is not None
    assert found["dear"] < found["cheap"]


# On a network ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> FoundBits:
    return xaisim.fewest_bits(sqnr=15, scenes=3, validation=4, model="cifar_cnn", method="saliency")


def measured(n: Numerics, pictures: np.ndarray) -> dict[str, float]:
    """Median figures by the public interface alone."""
    settings: dict[str, Any] = {"model": "cifar_cnn", "explainer": "saliency", "numerics": n}
    real, fixed = attribute(pictures, device="float", **settings), attribute(pictures, **settings)
    return {
        "sqnr_db": median(sqnr_db(a[None], b[None]) for a, b in zip(real, fixed, strict=True)),
        "spearman": median(spearman(a[None], b[None]) for a, b in zip(real, fixed, strict=True)),
    }


def test_found_widths_have_the_figures_that_are_printed_there_and_on_unseen_scenes(found: FoundBits) -> None:
    model = load_model("cifar_cnn")
    assert measured(found.numerics, calibration_batch(model, 3)) == pytest.approx(dict(found.found.figures))
    assert found.found.figures["sqnr_db"] >= 15
    unseen = np.concatenate([test_scene(model, i).x for i in range(4)])
    assert measured(found.numerics, unseen) == pytest.approx(dict(found.validation))
    assert found.holds == (found.validation["sqnr_db"] >= 15)


def test_the_trace_shows_that_no_class_can_do_with_a_bit_less(found: FoundBits) -> None:
    """For each class a point was tried with a bit less of it and no fewer of any other, and it missed the wish."""
    assert set(found.found.widths) == {"weights", "activations", "gradients"}, (
        "saliency has no path and no map of its own"
    )
    assert found.tried[0].widths == {"weights": 16, "activations": 16, "gradients": 16}
    assert found.found in found.tried
    assert found.found.moved_bits < found.tried[0].moved_bits
    for name, bits in found.found.widths.items():
        assert bits == 2 or any(
            t.widths[name] == bits - 1
            and not t.meets
            and all(t.widths[other] >= found.found.widths[other] for other in t.widths if other != name)
            for t in found.tried
        ), name
    for t in found.tried:
        assert t.meets == (t.figures["sqnr_db"] >= 15)


def test_the_search_is_deterministic(found: FoundBits) -> None:
    again = xaisim.fewest_bits(sqnr=15, scenes=3, validation=4, model="cifar_cnn", method="saliency")
    assert again.to_json() == found.to_json()


def test_a_bit_of_weights_is_worth_what_the_weights_have() -> None:
    """Forward reads every weight and backward all but the head's, of which it reads a row: the class is known.

    Behind its gate that row keeps its format, so it is stored and read again as wide as weights are.
    """
    p = prepare(Experiment(model="cifar_cnn", method="saliency"))
    weights = {
        node.args[1]: math.prod(p.model.graph.types()[node.args[1]].shape)
        for node in p.model.graph.nodes
        if node.op in ("conv", "linear")
    }
    difference = moved_bits(p, Numerics(weights=17)) - moved_bits(p, Numerics())
    head = list(weights)[-1]
    row = p.model.graph.types()[head].shape[1]
    assert difference == 2 * sum(weights.values()) - weights[head] + 3 * row


def test_a_path_method_has_widths_for_its_points_and_its_map() -> None:
    found = xaisim.fewest_bits(
        spearman=0.3, scenes=1, validation=1, model="cifar_cnn", method="integrated_gradients", n_steps=2
    )
    assert set(found.found.widths) == {"weights", "activations", "gradients", "path", "attributions"}
    assert found.found.figures["spearman"] >= 0.3


def run(*options: str) -> Any:
    usual = ["--model", "cifar_cnn", "--method", "saliency", "--scenes", "2", "--validate", "2"]
    return CliRunner().invoke(main, ["bits", *usual, *options])


def test_the_command_writes_numerics_that_other_commands_take(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    base = tmp_path / "base.yaml"
    base.write_text("calibration: min_error\nweights: 12\nattributions: 20\noverrides: {relu1: trn}\n")
    result = run("--sqnr", "10", "--numerics", str(base), "-o", str(path), "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    numerics = load_numerics(str(path))
    assert numerics.model_dump(mode="json") == told["numerics"]
    assert (numerics.calibration, numerics.attributions, numerics.overrides) == ("min_error", 20, {"relu1": "trn"})
    assert told["found"]["widths"] == {name: getattr(numerics, name) for name in told["found"]["widths"]}
    assert told["tried"][0]["widths"]["weights"] == 12, "it starts from what is given"
    explained = CliRunner().invoke(main, ["profile", "--model", "cifar_cnn", "--numerics", str(path)])
    assert explained.exit_code == 0


def test_the_table_has_a_row_for_every_point(found: FoundBits) -> None:
    from xaisim.report.bits import bits_text

    text = bits_text(found)
    rows = [line for line in text.splitlines() if line.endswith(("yes", "no", "yes *"))]
    assert len(rows) == len(found.tried)
    assert sum(row.endswith("*") for row in rows) == 1
    assert f"on {found.validation_scenes} test scenes" in text
    assert "weights: " in numerics_yaml(found)


def test_a_wish_beyond_the_start_is_refused_with_the_best_that_was_reached() -> None:
    result = run("--sqnr", "99")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(
        "error: a median SQNR >= 99 dB cannot be reached with weights 16, activations 16, gradients 16: "
        "the best over 2 scenes is SQNR "
    )
    figures = measured(Numerics(), calibration_batch(load_model("cifar_cnn"), 2))
    assert f"is SQNR {figures['sqnr_db']:.1f} dB, Spearman {figures['spearman']:.4f}, with all" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "a search for the fewest bits needs a wish: a least sqnr (in dB), spearman, or both"),
        (("--spearman", "1.5"), "spearman must be above 0, at most 1, got 1.5"),
        (("--sqnr", "nan"), "sqnr must be a finite number of dB, got nan"),
        (("--sqnr", "10", "--scenes", "0"), "scenes must be 1 to 32, got 0"),
        (("--sqnr", "10", "--validate", "999"), "validate must be 1 to 320, got 999"),
        (("--sqnr", "10", "--numerics", "q16.8"), "uniform q16.8 gives all tensors one width; start from fixed16"),
        (("--sqnr", "10", "--method", "forward"), "method forward makes no attribution"),
        (("--sqnr", "10", "-o", "mine.txt"), "mine.txt: numerics are a .yaml file; choose such a name"),
        (("--sqnr", "10", "-o", "nowhere/mine.yaml"), "nowhere/mine.yaml: there is no folder nowhere"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: tuple[str, ...], message: str) -> None:
    result = run(*options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("weights: 9\n")
    result = run("--sqnr", "1", "-o", str(path))
    assert result.exit_code == 2
    assert "exists already; choose another name or use --force" in result.stderr
    assert path.read_text() == "weights: 9\n"
    with pytest.raises(UserError, match="needs a wish"):
        xaisim.fewest_bits(model="cifar_cnn", method="saliency")
