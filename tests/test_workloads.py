"""Every shipped experiment loads, says what it is, and runs."""

from __future__ import annotations

import pytest

from xaisim.api import experiment_of
from xaisim.attribution.methods import METHODS
from xaisim.config import find_named, load_yaml, shipped_names
from xaisim.experiment import Experiment, load_experiment, prepare
from xaisim.flow import explain, profile
from xaisim.models.networks import NETWORKS

WORKLOADS = shipped_names("workloads")
NETWORKS_OF_WORKLOADS = ("cifar_cnn", "resnet18_tiny", "inception_v3_tiny", "resnet18", "inception_v3")
SMALL = [name for name in WORKLOADS if name.startswith("cifar_cnn")]
BIG = [name for name in WORKLOADS if name.startswith(("resnet18_", "inception_v3_")) and "tiny" not in name]


def test_every_network_ships_forward_one_gradient_and_a_loop() -> None:
    assert set(WORKLOADS) == {
        f"{net}_{kind}" for net in NETWORKS_OF_WORKLOADS for kind in ("forward", "gradient", "ig")
    }


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_says_what_its_name_says(name: str) -> None:
    experiment = load_experiment(name)
    network, kind = name.rsplit("_", 1)
    assert experiment.model == network
    assert experiment.description
    assert experiment.method in METHODS
    assert experiment == load_yaml(Experiment, find_named("workloads", name))
    methods = {"forward": {"forward"}, "ig": {"integrated_gradients"}}
    assert experiment.method in methods.get(kind, set(METHODS) - {"forward", "integrated_gradients", "gradcam"})
    if kind == "ig":
        assert (experiment.options.n_steps, experiment.options.baseline) == (50, "black")
    again = experiment_of(**experiment.model_dump(exclude_defaults=True, mode="json"))
    assert again == experiment


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n.startswith("inception_v3_") and n in BIG else n for n in WORKLOADS],
)
def test_every_workload_is_timed(name: str) -> None:
    experiment = load_experiment(name)
    report = profile(experiment)
    loops = {"forward": 1, "gradient": 1, "ig": 50}[name.rsplit("_", 1)[1]]
    assert (report.model, report.method, report.architecture) == (experiment.model, experiment.method, experiment.arch)
    assert max(launch.trips * launch.points_in_flight for launch in report.launches) == loops
    assert (report.macs.backward > 0) == (experiment.method != "forward")
    assert report.cycles.total >= report.roofline.lower_bound_cycles
    for unit in report.units.values():
        assert unit.busy + sum(unit.idle.values()) == report.cycles.total


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_names_only_what_exists(name: str) -> None:
    prepared = prepare(load_experiment(name), values=False)
    assert prepared.model.name in NETWORKS


@pytest.mark.parametrize("name", [n for n in SMALL if not n.endswith("_ig")])
def test_small_workloads_are_explained(name: str) -> None:
    report = explain(load_experiment(name))
    assert report.prediction is not None
    assert report.prediction.predicted == report.prediction.truth
    assert (report.fidelity is None) == (report.method == "forward")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in WORKLOADS if n.startswith(("cifar_cnn", "resnet18_tiny", "inception_v3_tiny"))]
)
def test_workloads_of_the_trained_networks_are_explained(name: str) -> None:
    report = explain(load_experiment(name))
    assert report.prediction is not None
    assert report.prediction.predicted == report.prediction.truth
    if report.method != "forward":
        assert report.fidelity is not None
        assert report.fidelity.sqnr_db > 20
        assert report.fidelity.cosine > 0.99  # rank figures mean little where most of a map is next to zero
