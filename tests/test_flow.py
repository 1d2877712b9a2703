"""The report of every method holds what scripts rely on; explain and profile agree; ``attribute`` is as in Captum."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xaisim.api import attribute, experiment_of, explain, profile
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError, shipped_names
from xaisim.experiment import prepare
from xaisim.hardware.architecture import load_architecture
from xaisim.ir.graph import evaluate
from xaisim.models.images import test_scene as shipped_scene
from xaisim.models.load import load_model
from xaisim.models.networks import NETWORKS
from xaisim.numerics.formats import Numerics
from xaisim.report.report import Report

TRAINED = [name for name, network in NETWORKS.items() if network.trained]
ONE_FORMAT = "q16.8"  # nothing to calibrate

KEYS = {
    "meta": ("hash", "version", "seed"),
    "": ("model", "method", "target", "weights", "overhead", "clock_mhz", "latency_ms", "utilisation"),
    "cycles": ("total", "inference", "explanation"),
    "macs": ("forward", "backward"),
    "roofline": ("lower_bound_cycles",),
    "units.array": ("busy", "idle"),
    "traffic_bytes.dram": ("read", "write"),
    "energy_uj": ("total", "by_component"),
    "memory": ("mask_bits", "index_bits", "on_chip_bits", "spilled_bits", "recomputed_bits"),
    "memory.peak_bytes": ("dram",),
}
RATES = {"mask_flip_rate", "zero_fraction", "saturated_fraction"}
ERRORS = {"sqnr_db", "nrmse", "max_error_lsb", "cosine", "pearson", "spearman", "ssim"}
FIDELITY = {*ERRORS, "topk_1pct", "topk_5pct", "topk_10pct", "topk_1000", "sign_agreement", *RATES}
COMPLETENESS = {"delta", "delta_integration", "delta_quantisation"}
LOCALISATION = {"pointing_hit", "relevance_mass", "relevance_rank"}
PLAIN = ("forward", "saliency", "input_x_gradient", "deconvnet", "guided_backprop", "gradcam", "integrated_gradients")
# Every method on the smallest network; on the others a loop, a map and a rule always, the rest in the long run.
CASES = [
    pytest.param(m, method, marks=pytest.mark.slow)
    if m != "cifar_cnn" and method in ("saliency", "input_x_gradient", "deconvnet", "forward")
    else (m, method)
    for m in TRAINED
    for method in METHODS
    if m == "cifar_cnn" or method in PLAIN
]


@cache
def settings(model: str, method: str) -> dict[str, Any]:
    options = METHODS[method].few(2)
    return {"model": model, "method": method, "numerics": ONE_FORMAT, **options}


@cache
def explained(model: str, method: str) -> Report:
    return explain("scene:1", **settings(model, method), target=1)  # as predicted


@cache
def profiled(model: str, method: str, arch: str = "pynq_z2") -> Report:
    narrow = {"numerics": "fixed8"} if load_architecture(arch).array.multiplier_bits < 16 else {}
    return profile(**{**settings(model, method), **narrow}, arch=arch, target=1)  # as predicted for scene 1


def assert_keys(data: Any) -> None:
    """Every key that scripts rely on is there and says something."""
    for path, keys in KEYS.items():
        part = data
        for name in path.split("."):
            part = part[name] if name else part
        for key in keys:
            assert part[key] is not None, f"{path}.{key}"


def parsed(report: Report) -> Any:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    return json.loads(report.to_json(), parse_constant=refuse)


# ---------------------------------------------------------------------------------------------------------------------
# The report


@pytest.mark.parametrize(("model", "method"), CASES)
def test_explain_reports_every_key_that_scripts_rely_on(model: str, method: str) -> None:
    data = parsed(explained(model, method))
    assert_keys(data)
    assert (data["model"], data["method"], data["weights"]) == (model, method, f"{model}.safetensors")
    if method == "forward":
        assert (data["fidelity"], data["completeness"], data["localisation"]) == (None, None, None)
        return
    assert set(data["fidelity"]) >= FIDELITY
    assert set(data["localisation"]) >= LOCALISATION
    assert (data["completeness"] is not None) == METHODS[method].complete
    if METHODS[method].complete:
        assert set(data["completeness"]) >= COMPLETENESS


@pytest.mark.parametrize("method", METHODS)
def test_profile_reports_the_same_keys_without_values(method: str) -> None:
    data = parsed(profiled("cifar_cnn", method))
    assert_keys(data)
    for path in ("prediction", "attribution_format", "fidelity", "completeness", "localisation"):
        assert data[path] is None, path


@pytest.mark.parametrize("method", METHODS)
def test_a_report_survives_its_file(method: str, tmp_path: Path) -> None:
    for report in (explained("cifar_cnn", method), profiled("cifar_cnn", method)):
        path = tmp_path / "report.json"
        path.write_text(report.to_json(), encoding="utf-8")
        loaded = Report.load(path)
        assert loaded.model_dump() == report.model_dump()
        assert loaded.to_json() == report.to_json()
        with pytest.raises(ValueError, match="read from a file"):
            _ = loaded.attribution


def test_a_file_that_is_no_report_is_told(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for text in ("", "{}", "[1]", explained("cifar_cnn", "saliency").to_json().replace('"model"', '"modle"')):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"report\.json: not a report"):
            Report.load(path)
    with pytest.raises(UserError, match="not a report"):
        Report.load(tmp_path / "missing.json")


@pytest.mark.parametrize(("model", "method"), CASES)
def test_units_and_energy_of_a_report_add_up(model: str, method: str) -> None:
    report = explained(model, method)
    for name, unit in report.units.items():
        assert unit.busy + sum(unit.idle.values()) == report.cycles.total, name
    parts: dict[str, float] = {}
    for line in report.energy_uj.counts:
        parts[line.component] = parts.get(line.component, 0.0) + line.count * line.pj_each / 1e6
    assert parts == pytest.approx(report.energy_uj.by_component, rel=1e-12)
    assert sum(parts.values()) == pytest.approx(report.energy_uj.total, rel=1e-12)
    assert report.cycles.total == report.cycles.inference + report.cycles.explanation
    assert report.overhead == report.cycles.explanation / report.cycles.inference
    assert report.latency_ms == pytest.approx(report.cycles.total / report.clock_mhz / 1e3, rel=1e-12)
    assert report.cycles.total >= report.roofline.lower_bound_cycles > 0
    assert sum(row.macs for row in report.layers) == report.macs.forward + report.macs.backward
    launch = report.launches[-1]
    assert launch.start_cycle + launch.cycles <= report.cycles.total


@pytest.mark.parametrize(("model", "method"), CASES)
def test_explain_and_profile_of_an_experiment_cost_the_same(model: str, method: str) -> None:
    """But for methods that stop by what they see: those cost a profile at most."""
    values, shapes = explained(model, method), profiled(model, method)
    if METHODS[method].stops:
        assert values.cycles.total <= shapes.cycles.total
        assert {row.kernel for row in values.launches} <= {row.kernel for row in shapes.launches}
        return
    for part in (
        "cycles",
        "macs",
        "units",
        "traffic_bytes",
        "energy_uj",
        "memory",
        "launches",
        "layers",
        "roofline",
        "critical_path",
    ):
        assert getattr(values, part) == getattr(shapes, part), part


def test_calibrated_formats_cost_what_a_profile_says() -> None:
    """The schedule depends on widths alone, never on where the points lie."""
    calibrated = explain("scene:2", model="cifar_cnn", weights="random", method="guided_backprop")
    dry = profile(model="cifar_cnn", weights="random", method="guided_backprop")
    assert calibrated.calibration == "largest value on the explained picture itself"
    assert (calibrated.cycles, calibrated.energy_uj) == (dry.cycles, dry.energy_uj)
    assert calibrated.weights == "random weights (seed 0)"


@pytest.mark.parametrize("method", ["integrated_gradients", "gradcam"])
@pytest.mark.parametrize("change", ["per_channel=true", "running_sum=20", "calibration=min_error"])
def test_a_way_of_choosing_formats_costs_what_a_profile_says(method: str, change: str) -> None:
    options: dict[str, Any] = {"n_steps": 2} if method == "integrated_gradients" else {}
    options |= {"model": "cifar_cnn", "method": method, "numerics": f"fixed8:{change}", "target": 1}
    values, shapes = explain("scene:1", **options), profile(**options)
    assert (values.cycles, values.energy_uj, values.memory) == (shapes.cycles, shapes.energy_uj, shapes.memory)
    plain = profile(**{**options, "numerics": "fixed8"})
    if change == "per_channel=true" and method == "integrated_gradients":
        assert shapes.memory.peak_bytes["dram"] > plain.memory.peak_bytes["dram"], "backward has weights of its own"
    if change == "running_sum=20" and method == "integrated_gradients":
        assert shapes.traffic_bytes["dram"].read < plain.traffic_bytes["dram"].read, "a narrower sum goes to memory"


def test_forward_alone_is_inference() -> None:
    report = profiled("cifar_cnn", "forward")
    assert (report.cycles.explanation, report.overhead, report.macs.backward) == (0, 0.0, 0)
    assert report.macs.forward == 25_003_264
    for method in METHODS:
        assert profiled("cifar_cnn", method).cycles.inference == report.cycles.total


@pytest.mark.parametrize("arch", shipped_names("arch_configs"))
def test_every_method_is_timed_on_every_architecture(arch: str) -> None:
    for method in METHODS:
        report = profiled("cifar_cnn", method, arch)
        assert report.architecture == arch
        assert report.cycles.total >= report.roofline.lower_bound_cycles
        assert 0 < report.utilisation <= 1
        for unit in report.units.values():
            assert unit.busy + sum(unit.idle.values()) == report.cycles.total


def test_the_content_hash_tells_experiments_apart() -> None:
    base = {"model": "cifar_cnn", "method": "integrated_gradients", "n_steps": 2, "numerics": ONE_FORMAT}
    changes: list[dict[str, Any]] = [
        {}, {"image": "scene:1"}, {"method": "saliency", "n_steps": None}, {"n_steps": 3}, {"rule": "riemann_left"},
        {"baseline": "white"}, {"target": 3}, {"arch": "zcu104"}, {"numerics": "q16.9"}, {"weights": "random"},
        {"weights": "random", "seed": 1}, {"model": "resnet18_tiny"},
    ]  # fmt: skip
    hashes = [prepare(experiment_of(**{**base, **change})).content_hash() for change in changes]
    assert len(set(hashes)) == len(changes)
    assert prepare(experiment_of(**base)).content_hash() == hashes[0]


def test_a_given_class_is_explained_instead_of_the_predicted_one() -> None:
    free, given = explained("cifar_cnn", "saliency"), explain("scene:1", **settings("cifar_cnn", "saliency"), target=7)
    assert free.prediction is not None
    assert given.prediction is not None
    assert (free.target, free.prediction.predicted, free.prediction.truth) == (1, 1, 1)
    assert (given.target, given.prediction.target, given.prediction.predicted) == (7, 7, 1)
    assert given.prediction.score < free.prediction.score


# ---------------------------------------------------------------------------------------------------------------------
# Settings from Python


def test_settings_may_be_paths_numpy_numbers_and_nouns(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", np.full((32, 32), 0.5))
    numerics = Numerics(weights=8)
    experiment = experiment_of(
        image=tmp_path / "grey.npy",
        n_steps=np.int64(3),
        target=np.int32(4),
        numerics=numerics,
        baseline=np.float32(0.5),
    )
    assert (experiment.image, experiment.target) == (str(tmp_path / "grey.npy"), 4)
    assert (experiment.options.n_steps, experiment.options.baseline, experiment.numerics) == (3, 0.5, numerics)


def test_wrong_settings_are_told_all_at_once() -> None:
    with pytest.raises(UserError) as refused:
        experiment_of(modell="cifar_cnn", n_steps=0, numerics={"wieghts": 8})
    lines = str(refused.value).splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "options: numerics: wieghts: unknown key",
        "options: modell: unknown key",
        "options: n_steps: must be greater than or equal to 1 (got 0)",
    ]
    assert "did you mean 'model'?" in lines[1]


def test_uniform_numerics_set_every_width() -> None:
    report = profile(model="cifar_cnn", method="saliency", numerics={"uniform": "q8.4"})
    assert report.numerics == profile(model="cifar_cnn", method="saliency", numerics="q8.4").numerics
    assert [report.numerics[key] for key in ("weights", "activations", "gradients", "path")] == [8, 8, 8, 8]


def test_an_override_changes_one_tensor() -> None:
    plain = explained("cifar_cnn", "saliency")
    coarse = explain(
        "scene:1",
        **{**settings("cifar_cnn", "saliency"), "numerics": {"uniform": "q16.8", "overrides": {"fc1.w": "q4.2"}}},
    )
    assert plain.fidelity is not None
    assert coarse.fidelity is not None
    assert coarse.fidelity.sqnr_db < plain.fidelity.sqnr_db
    assert coarse.traffic_bytes["dram"].read < plain.traffic_bytes["dram"].read
    with pytest.raises(UserError, match=r"no tensor 'fc9\.w' is given a format in saliency on cifar_cnn; did you mean"):
        profile(**{**settings("cifar_cnn", "saliency"), "numerics": {"overrides": {"fc9.w": "q4.2"}}})


# ---------------------------------------------------------------------------------------------------------------------
# attribute

MODEL = load_model("cifar_cnn")
X = np.concatenate([shipped_scene(MODEL, i).x for i in range(3)])
CNN: dict[str, Any] = {"model": "cifar_cnn", "numerics": ONE_FORMAT}


def score(x: np.ndarray, targets: list[int]) -> np.ndarray:
    return evaluate(MODEL.graph, {"input": x})["logits"][np.arange(len(x)), targets]


@pytest.mark.parametrize("device", ["fixed", "float"])
@pytest.mark.parametrize("explainer", [m for m in METHODS if m != "forward"])
def test_attribute_returns_float64_maps_one_per_sample(explainer: str, device: Any) -> None:
    options = METHODS[explainer].few(2)
    if explainer == "riemann_opt":  # whose shipped table is for paths from black
        options["baselines"] = "black"
    maps = attribute(X, explainer=explainer, device=device, **options, **CNN)
    assert maps.dtype == np.float64
    assert maps.shape == ((3, 1, 32, 32) if explainer in ("gradcam", "gradcam_plus_plus", "layercam") else X.shape)
    alone = attribute(X[1:2], explainer=explainer, device=device, **options, **CNN)
    assert np.array_equal(alone, maps[1:2])


def test_attribute_is_what_explain_computes() -> None:
    for method in ("saliency", "integrated_gradients"):
        report = explained("cifar_cnn", method)
        options = {"n_steps": 2, "baselines": "black"} if method == "integrated_gradients" else {}
        assert np.array_equal(attribute(X[1:2], explainer=method, **options, **CNN), report.attribution)
        exact = attribute(X[1:2], explainer=method, device="float", **options, **CNN)
        assert np.allclose(exact, report.reference, rtol=1e-9, atol=1e-12)


def test_every_sample_may_have_its_own_target() -> None:
    maps = attribute(X, explainer="saliency", target=[3, 1, 4], **CNN)
    for i, target in enumerate((3, 1, 4)):
        assert np.array_equal(maps[i : i + 1], attribute(X[i : i + 1], explainer="saliency", target=target, **CNN))
    predicted = evaluate(MODEL.graph, {"input": X})["logits"].argmax(axis=1)
    assert np.array_equal(
        attribute(X, explainer="saliency", **CNN), attribute(X, explainer="saliency", target=predicted, **CNN)
    )


@pytest.mark.parametrize("device", ["fixed", "float"])
def test_delta_is_what_completeness_leaves(device: Any) -> None:
    targets, x = [0, 5], X[:2]
    for baselines in (-0.5, x[::-1] * 0.5):
        maps, delta = attribute(
            x, baselines=baselines, target=targets, n_steps=2, device=device, return_convergence_delta=True, **CNN
        )
        starts = np.broadcast_to(baselines, x.shape)
        assert delta.shape == (2,)
        assert delta == pytest.approx(maps.sum(axis=(1, 2, 3)) - (score(x, targets) - score(starts, targets)), abs=1e-9)


def test_more_steps_make_the_delta_small() -> None:
    deltas = [
        abs(attribute(X[:1], n_steps=n, device="float", return_convergence_delta=True, **CNN)[1][0]) for n in (1, 40)
    ]
    assert deltas[1] < 0.1 * deltas[0], deltas


def test_internal_batch_size_changes_nothing() -> None:
    maps = [attribute(X[:1], n_steps=4, internal_batch_size=size, **CNN) for size in (None, 1, 2, 50)]
    for other in maps[1:]:
        assert np.array_equal(other, maps[0])
    exact = [attribute(X[:1], n_steps=4, internal_batch_size=size, device="float", **CNN) for size in (None, 1)]
    for other in exact[1:]:
        assert np.allclose(other, exact[0], rtol=1e-9, atol=1e-12)


def test_calibration_follows_the_given_baselines() -> None:
    """Starts far from black widen the formats instead of saturating: the fixed map stays near the float one."""
    far = np.full(X[:1].shape, 6.0)
    fixed, exact = (
        attribute(X[:1], baselines=far, n_steps=2, model="cifar_cnn", weights="random", device=device)
        for device in ("fixed", "float")
    )
    assert 10 * np.log10((exact**2).sum() / ((fixed - exact) ** 2).sum()) > 20


REFUSED_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"inputs": X[0]}, "inputs must have shape (N, 3, 32, 32), got (3, 32, 32)"),
    ({"inputs": X[:0]}, "inputs must have shape (N, 3, 32, 32), got (0, 3, 32, 32)"),
    ({"inputs": "x"}, "inputs must be an array of numbers of shape (N, 3, 32, 32)"),
    ({"inputs": X * np.nan}, "inputs must be finite numbers"),
    ({"target": [1, 2]}, "target must be one class or a list of 3, got [1, 2]"),
    ({"target": 10}, "target must be of classes 0 to 9, got 10"),
    ({"target": -1}, "target must be of classes 0 to 9, got -1"),
    ({"target": 1.5}, "target must be one class or a list of 3, got 1.5"),
    ({"baselines": np.ones(5)}, "baselines must be a number or have the inputs' shape (3, 3, 32, 32)"),
    ({"baselines": np.inf}, "baselines must be finite numbers"),
    ({"baselines": "grey"}, "options: baseline: must be black, white, mean, noise or a number (got 'grey')"),
    ({"method": "middle"}, "unknown rule 'middle'; did you mean 'riemann_middle'?"),
    ({"explainer": "shap"}, "unknown method 'shap'; choices: forward, saliency"),
    ({"explainer": "saliency", "baselines": 0}, "method saliency takes no baselines"),
    ({"explainer": "saliency", "return_convergence_delta": True}, "method saliency has no convergence delta"),
    ({"internal_batch_size": 0}, "internal_batch_size must be at least 1, got 0"),
    ({"device": "gpu"}, "unknown device 'gpu'; choices: fixed, float"),
    ({"n_steps": 0}, "options: n_steps: must be greater than or equal to 1 (got 0)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED_ARGUMENTS, ids=[m for _, m in REFUSED_ARGUMENTS])
def test_attribute_refuses_what_it_cannot_mean(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        attribute(**{"inputs": X, **CNN, **arguments})
    assert str(refused.value).startswith(message)
