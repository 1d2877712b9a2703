"""Do the studies that compare methods judge as they say: pairs, intervals, trends, and what counts as kept?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from xaisim.models.images import Sample
from xaisim.models.images import test_scene as scene
from xaisim.models.load import load_model
from xaisim.studies import idg, smoothtaylor
from xaisim.studies.bench import MARGIN, Bench, Contender, alike_text, cheapest_alike
from xaisim.studies.cells import Cells
from xaisim.studies.study import Setting

Row = dict[str, Any]
PICTURES = 40


def rows_of(name: str, values: Sequence[float], cycles: float, **more: Any) -> list[Row]:
    return [{"name": name, "area": value, "cycles": cycles, **more} for value in values]


@pytest.mark.parametrize(
    ("loss", "spread", "kept"),
    [
        (0.0, 0.001, True),  # as good, and shown to be
        (0.9 * MARGIN, 0.001, True),  # a little worse, within the margin for sure
        (1.1 * MARGIN, 0.001, False),
        (0.0, 3.0, False),  # as good on average, but nothing is shown
        (-0.5, 0.001, True),  # better
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_quality_is_kept_only_where_the_whole_interval_says_so(
    loss: float, spread: float, kept: bool, sign: int
) -> None:
    rng = np.random.default_rng(1)
    full = 10 + rng.normal(size=PICTURES)
    noise = spread * rng.normal(size=PICTURES)
    cheap = full - sign * (loss * full.mean() + noise - noise.mean())
    rows = rows_of("full", full, 100) + rows_of("cheap", cheap, 20)
    found = cheapest_alike(rows, "full", {"area": sign})
    assert found == (("cheap", 5.0) if kept else ("full", 1.0))
    text = alike_text(found, "full", "of all")
    assert ("5x fewer" in text, "none that is cheaper" in text) == (kept, not kept)


def test_the_cheapest_of_those_that_keep_it_wins_and_all_figures_count() -> None:
    names = {"full": 100, "half": 50, "tenth": 10}
    rows = [row for name, cycles in names.items() for row in rows_of(name, [1.0] * 5, cycles)]
    for row in rows:
        row["other"] = 0.5 if row["name"] == "tenth" else 1.0
    assert cheapest_alike(rows, "full", {"area": 1}) == ("tenth", 10.0)
    assert cheapest_alike(rows, "full", {"area": 1, "other": 1}) == ("half", 2.0)
    assert cheapest_alike(rows, "full", {"area": 1, "other": -1}) == ("tenth", 10.0)
    assert cheapest_alike(rows, "full", {"area": 1}, names=["half"]) == ("half", 2.0)


# IDG ------------------------------------------------------------------------------------------------------------------


def contest_rows(model: str, gains: dict[str, tuple[float, float]]) -> list[Row]:
    """Return rows in which IDG differs from a rival by (insertion, deletion) on every picture alike."""
    wobble = np.linspace(-0.01, 0.01, PICTURES)
    return [
        {"model": model, "name": name, "method": "m", "insertion": 0.9 + w - i, "deletion": 0.1 + w - d, "cycles": 1}
        for name, (i, d) in gains.items()
        for w in wobble
    ]


def test_the_better_side_of_a_pair_depends_on_what_is_good() -> None:
    gains = {
        "IDG": (0.0, 0.0), "IG": (0.02, -0.02), "left-IG": (-0.02, 0.02), "Guided IG": (0.0, 0.0), "AGI": (0.02, 0.0),
        "IDGI": (0.0, 0.02),
    }  # fmt: skip
    pairs = {(p["rival"], p["key"]): p for p in idg.paired(contest_rows("a", gains) + contest_rows("b", gains), "a")}
    verdicts = {
        rival.name: tuple(pairs[rival.name, key]["verdict"] for key in ("insertion", "deletion"))
        for rival in idg.RIVALS[1:]
    }
    assert verdicts == {
        "IG": ("IDG", "IDG"), "left-IG": ("rival", "rival"), "Guided IG": ("neither", "neither"),
        "AGI": ("IDG", "neither"), "IDGI": ("neither", "rival"),
    }  # fmt: skip
    assert pairs["IG", "insertion"]["mean"] == pytest.approx(0.02)
    assert (pairs["IG", "deletion"]["won"], pairs["left-IG", "deletion"]["won"]) == (1.0, 0.0)


# SmoothTaylor ---------------------------------------------------------------------------------------------------------


def taylor_rows(aupc: Sequence[float], autvc: Sequence[float], adaptive: dict[str, tuple[float, float]]) -> list[Row]:
    """Return rows of SmoothTaylor over σ = 0.1, 0.5, 2, of R = 10, 150, of IG, and of both searches."""
    given = {
        **{f"SmoothTaylor σ {s:g}": (a, t) for s, a, t in zip((0.1, 0.5, 2.0), aupc, autvc, strict=True)},
        "SmoothTaylor R 10": (9.0, 9.0), "SmoothTaylor R 150": (aupc[1], autvc[1]), "IG, from black": (5.0, 5.0),
        **adaptive,
    }  # fmt: skip
    return [
        {"name": name, "aupc": a, "autvc": t, "sigma": float(name.split()[-1]) if "σ" in name else 0.5,
         "n_samples": int(name.split()[-1]) if " R " in name else 150}
        for name, (a, t) in given.items()
    ]  # fmt: skip


def held(rows: list[Row]) -> list[str]:
    return [row[3] for row in smoothtaylor.trend_rows(rows, list(dict.fromkeys(row["name"] for row in rows)))]


def test_every_published_trend_can_hold_and_can_fail() -> None:
    good = taylor_rows((3, 2, 4), (3, 2, 4), {"adaptive AUTVC": (2.5, 1.0), "adaptive AUPC": (1.0, 2.5)})
    assert held(good) == ["yes"] * 8
    bad = taylor_rows((6, 10, 11), (11, 10, 6), {"adaptive AUTVC": (9.0, 11.0), "adaptive AUPC": (11.0, 9.0)})
    assert held(bad) == ["no"] * 8


# On pictures ----------------------------------------------------------------------------------------------------------


def test_a_contender_costs_what_it_launches_and_is_judged_on_the_same_bits() -> None:
    bench, sample = Bench(load_model("cifar_cnn"), "pynq_z2"), scene(load_model("cifar_cnn"), 0)
    few, more = (
        idg.judged(bench, Contender(f"IDG {n}", "idg", {"n_steps": n, "n_pilots": 5}), sample) for n in (5, 10)
    )
    assert (few["gradients"], more["gradients"]) == (5, 10)
    assert 0 < few["cycles"] < more["cycles"] < 2 * few["cycles"]
    assert 0 <= few["deletion"] <= few["insertion"] <= 1
    assert few == idg.judged(bench, Contender("again", "idg", {"n_steps": 5, "n_pilots": 5}), sample)


def drawn(_bench: Bench, contender: Contender, sample: Sample) -> Row:
    """Return a row that is as much a picture's as a contender's."""
    rng = np.random.default_rng([*contender.key.encode(), *sample.name.encode()])
    figures = "insertion", "deletion", "aupc", "autvc", "cycles", "uj", "gradients"
    return dict(zip(figures, rng.uniform(1, 2, len(figures)).tolist(), strict=True))


@pytest.mark.parametrize(("study", "pages"), [(idg, 3), (smoothtaylor, 2)])
def test_a_study_shows_every_contender_and_goes_on_where_it_was(
    study: Any, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "judged", drawn)
    setting = Setting(quick=True, models=("cifar_cnn",), archs=("pynq_z2",), count=3)
    with Cells(None, "") as cells:
        found = study.study(setting, cells, lambda *_: None)
        names = {contender.name for contender in study.contenders(quick=True)}
        shown = {cell for table in found.tables for row in table.rows for cell in row}
        assert (len(found.tables), names - shown, len(found.verdict) > 2) == (pages, set(), True)
        monkeypatch.setattr(study, "judged", lambda *_: pytest.fail("judged again"))
        assert study.study(setting, cells, lambda *_: None).to_json() == found.to_json()
