"""Are the figures of the bits study those of single runs, is nothing lost or counted twice, do the intervals hold?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from xaisim.api import explain

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dse"))
import bits
import bits_report


def study(folder: Path, *arguments: str) -> None:
    options = ("--store", str(folder / "bits.jsonl"), "--docs", str(folder), "--models", "cifar_cnn", *arguments)
    result = CliRunner().invoke(bits.main, options)
    assert result.exit_code == 0, result.output


def lines(folder: Path) -> list[dict]:
    return [json.loads(text) for text in (folder / "bits.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bits")
    study(folder, "--scenes", "12", "--methods", "saliency", "--widths", "8,16", "--narrowed", "all,gradients")
    return folder


def test_a_batch_gives_every_scene_the_figures_it_has_alone(done: Path) -> None:
    piece = next(p for p in lines(done) if len(p["scenes"]) > 1 and p["bits"] == 16)
    for place, scene in enumerate(piece["scenes"]):
        report = explain(f"scene:{scene}", model="cifar_cnn", method="saliency", target=_label(scene))
        assert report.fidelity is not None
        f, found = report.fidelity, {name: values[place] for name, values in piece["figures"].items()}
        own = {
            "sqnr_db": f.sqnr_db, "cosine": f.cosine, "spearman": f.spearman, "topk_1pct": f.topk_1pct,
            "topk_5pct": f.topk_5pct, "topk_10pct": f.topk_10pct, "zeros": f.zero_fraction,
            "mask_flips": f.mask_flip_rate, "index_flips": f.index_flip_rate,
        }  # fmt: skip
        for name, value in own.items():
            assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-12), name
        assert found["prediction"] == (report.prediction.predicted == _float_prediction(scene))  # type: ignore[union-attr]


def _label(scene: int) -> int:
    from xaisim.models.images import test_scene
    from xaisim.models.load import load_model

    return int(test_scene(load_model("cifar_cnn", values=False), scene).label or 0)


def _float_prediction(scene: int) -> int:
    from xaisim.ir.graph import evaluate
    from xaisim.models.images import test_scene
    from xaisim.models.load import load_model

    model = load_model("cifar_cnn")
    return int(evaluate(model.graph, {"input": test_scene(model, scene).x})["logits"][0].argmax())


def test_a_path_method_gives_the_figures_of_single_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "N_STEPS", 3)
    study(tmp_path, "--scenes", "1", "--methods", "integrated_gradients", "--widths", "16", "--narrowed", "all")
    (piece,) = lines(tmp_path)
    report = explain("scene:0", model="cifar_cnn", method="integrated_gradients", n_steps=3, target=_label(0))
    assert report.fidelity is not None
    assert piece["figures"]["sqnr_db"][0] == pytest.approx(report.fidelity.sqnr_db, rel=1e-5)


def test_the_study_goes_on_where_it_ended(done: Path, tmp_path: Path) -> None:
    kept = (done / "bits.jsonl").read_text()
    (tmp_path / "bits.jsonl").write_text(kept[: len(kept) // 2])  # cut off in the middle of a line
    whole = len(kept[: len(kept) // 2].splitlines()) - 1
    study(tmp_path, "--scenes", "12", "--methods", "saliency", "--widths", "8,16", "--narrowed", "all,gradients")
    texts = (tmp_path / "bits.jsonl").read_text().splitlines()
    pieces = [json.loads(text) for n, text in enumerate(texts) if n != whole]
    key = json.dumps
    assert sorted(map(key, pieces)) == sorted(key(json.loads(text)) for text in kept.splitlines())
    assert (tmp_path / "bits.md").read_text().split("Made by")[0] == (done / "bits.md").read_text().split("Made by")[0]


def test_pieces_of_other_code_are_not_mixed_in(done: Path, tmp_path: Path) -> None:
    first = json.loads((done / "bits.jsonl").read_text().splitlines()[0])
    (tmp_path / "bits.jsonl").write_text(json.dumps({**first, "code": "another"}) + "\n")
    assert not list(bits.read(tmp_path / "bits.jsonl", any_code=False))
    assert len(list(bits.read(tmp_path / "bits.jsonl", any_code=True))) == 1


def test_a_scene_counts_once_and_sixteen_bits_for_every_class(done: Path) -> None:
    pieces = list(bits.read(done / "bits.jsonl", any_code=False))
    cells = bits_report.collect([*pieces, *pieces])
    assert {len(figures["sqnr_db"]) for figures in cells.values()} == {12}
    assert set(cells) == {("cifar_cnn", "saliency", kind, width) for kind in ("all", "gradients") for width in (8, 16)}
    same = (cells["cifar_cnn", "saliency", kind, 16]["sqnr_db"] for kind in ("all", "gradients"))
    np.testing.assert_array_equal(*same)


def test_wider_is_closer_and_the_report_says_so(done: Path) -> None:
    cells = bits_report.collect(bits.read(done / "bits.jsonl", any_code=False))
    wide, narrow = (cells["cifar_cnn", "saliency", "all", width]["sqnr_db"] for width in (16, 8))
    assert np.median(wide) > np.median(narrow) + 20
    text = (done / "bits.md").read_text()
    e = bits_report.estimate("sqnr_db", wide)
    assert f"| 16 | {e.value:.3g} [{e.low:.3g}, {e.high:.3g}] |" in text
    assert [bits_report._number(v) for v in (0.123456, 0.95, 0.9996, 1.0, 35.81)] == [
        "0.123",
        "0.950",
        "0.99960",
        "1",
        "35.8",
    ]
    with Image.open(done / "bits.png") as picture:
        assert picture.height > 400


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        e = bits_report.estimate("sqnr_db", generator.normal(5, 2, 80))
        assert e.low <= e.value <= e.high
        hits += e.low <= 5 <= e.high
    assert 180 <= hits <= 199  # 95 % of 200, ± 3 standard deviations
    assert bits_report.estimate("zeros", np.full(9, 0.25)) == (0.25, 0.25, 0.25, 9)


def test_what_is_written_by_hand_stays(done: Path) -> None:
    path = done / "bits.md"
    path.write_text("# By hand\n\n" + path.read_text().split("\n", 2)[2] + "\nafter\n")
    study(done, "--report-only")
    text = path.read_text()
    assert text.startswith("# By hand\n\n" + bits_report.START)
    assert text.endswith("\nafter\n")


def test_narrowed_classes_are_the_named_numerics() -> None:
    from xaisim.numerics.formats import NAMED_NUMERICS

    assert bits.Setting("all", 16).numerics() == NAMED_NUMERICS["fixed16"]
    assert bits.Setting("all", 8).numerics() == NAMED_NUMERICS["fixed8"]
    one = bits.Setting("gradients", 5).numerics()
    assert (one.weights, one.activations, one.gradients, one.path, one.attributions) == (16, 16, 5, 16, 24)
