"""Are averages over noise what their equations say, on every device, whoever makes the noise, and at which cost?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from random_graphs import RandomNetwork
from test_gradient import EXACT, X, one_conv

from xaisim.attribution import METHODS
from xaisim.attribution.smoothing import register
from xaisim.attribution.smoothing_kernels import SIGMA
from xaisim.config import UserError, load_data
from xaisim.experiment import Experiment, Options, prepare
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.noise import HOST_WORK, UNIT, HostNoise, chip_noise, on_chip
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.numerics.devices import DryDevice, FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges
from xaisim.numerics.mixed import MixedDevice
from xaisim.simulate.memory_check import RecordingDevice, check
from xaisim.simulate.program import ProgramTiming, time_program

SHAPE = (2, 6, 5)
ARCH = load_architecture("pynq_z2")


def small_network(seed: int = 9) -> Graph:
    """Two convolutions with ReLUs between, and a head over all places."""
    net = RandomNetwork(seed)
    x = net.input("input", TensorType(SHAPE))
    x = net.add(net.name("relu"), "relu", net.window(x, 5, (3, 3), (1, 1), (1, 1, 1, 1), True))
    x = net.add(net.name("relu"), "relu", net.window(x, 4, (3, 3), (1, 1), (0, 0, 0, 0), True))
    return net.build(net.head(x, 3, False))


def linear(weights: np.ndarray) -> Graph:
    """f = w·x."""
    b = GraphBuilder()
    b.input("input", TensorType(weights.shape))
    b.constant("w", weights.reshape(1, -1))
    b.add("flat", "reshape", "input", shape=(weights.size,))
    return b.build(b.add("logits", "linear", "flat", "w"))


NET = small_network()
PICTURE = np.random.default_rng(0).normal(size=(1, *SHAPE))


def unit_noise(source: str, samples: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Return the deviates of a source as real numbers."""
    if source == "host":
        return HostNoise(UNIT, 1.0, seed).draw(shape, samples) * UNIT.step
    return on_chip(shape, seed, np.arange(samples)) * UNIT.step


def gradients_at(graph: Graph, points: np.ndarray, target: int = 0) -> np.ndarray:
    """Return the gradient at each of some points, one by one."""
    return np.concatenate([METHODS["saliency"].run(FloatDevice(), graph, z[None], target).real() for z in points])


def run(method: str, graph: Graph = NET, x: np.ndarray = PICTURE, device: Any = None, **options: Any) -> np.ndarray:
    return METHODS[method].run(device or FloatDevice(), graph, x, 0, **options).real()


def fixed(method: str, kind: type[FixedDevice] = FixedDevice, batch: int | None = None, **options: Any) -> FixedDevice:
    """Return a device with formats for a method on ``PICTURE``."""
    ranges = Ranges()
    run(method, device=FloatDevice(observe=ranges.see), **options)
    return kind(Formats(Numerics(), ranges.largest), 48, batch_size=batch)


# By their equations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["host", "lfsr"])
def test_smoothgrad_is_the_mean_of_gradients_over_noise(source: str) -> None:
    sigma = float(register(0.3).real()[0])
    assert abs(sigma - 0.3) <= SIGMA.step / 2
    gradients = gradients_at(NET, PICTURE + sigma * unit_noise(source, 7))
    moments = gradients.mean(axis=0), (gradients**2).mean(axis=0)
    expected = {"plain": moments[0], "squared": moments[1], "vargrad": moments[1] - moments[0] ** 2}
    assert gradients.std(axis=0).max() > 0.1
    for variant, mean in expected.items():
        found = run("smoothgrad", n_samples=7, sigma=0.3, variant=variant, noise=source)
        assert np.allclose(found[0], mean, rtol=1e-12, atol=1e-14), variant


@pytest.mark.parametrize("source", ["host", "lfsr"])
def test_smooth_taylor_is_the_mean_of_first_order_terms(source: str) -> None:
    points = PICTURE + 0.5 * unit_noise(source, 9, seed=5)
    expected = ((PICTURE - points) * gradients_at(NET, points)).mean(axis=0)
    found = run("smooth_taylor", n_samples=9, noise=source, noise_seed=5)
    assert np.allclose(found[0], expected, rtol=1e-12, atol=1e-14)


def test_a_spread_is_a_share_of_the_pictures_range_and_0_15_by_default() -> None:
    width = float(PICTURE.max() - PICTURE.min())
    default = run("smoothgrad", n_samples=3)
    assert (run("smoothgrad", n_samples=3, sigma=0.15 * width) == default).all()
    assert (run("smoothgrad", n_samples=3, stdev_spread=0.15) == default).all()
    assert not (run("smoothgrad", n_samples=3, stdev_spread=0.3) == default).all()


# Exact cases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["host", "lfsr"])
def test_on_a_linear_function_smoothgrad_is_the_weights_and_smooth_taylor_minus_noise_times_them(source: str) -> None:
    weights = np.random.default_rng(1).integers(-8, 8, SHAPE) / 4
    noise = unit_noise(source, 6)
    for x in (PICTURE, 0 * PICTURE):
        assert np.allclose(run("smoothgrad", linear(weights), x, n_samples=6, noise=source)[0], weights, atol=1e-12)
        found = run("smooth_taylor", linear(weights), x, n_samples=6, noise=source)[0]
        assert np.allclose(found, -0.5 * noise.mean(axis=0) * weights, atol=1e-12)
    spread = run("smoothgrad", linear(weights), n_samples=6, variant="vargrad", noise=source)
    assert np.abs(spread).max() < 1e-12


@pytest.mark.parametrize("numerics", [None, Numerics(uniform="q16.0")])
def test_the_least_noise_leaves_the_gradient_of_one_conv_exactly(numerics: Numerics | None) -> None:
    device = FloatDevice() if numerics is None else FixedDevice(Formats(numerics), 48)
    found = run("smoothgrad", one_conv(), X, device, n_samples=4, sigma=SIGMA.step)
    assert found[0, 0].tolist() == EXACT["saliency"]


def test_a_linear_function_gives_the_same_bits_at_every_number_of_samples_that_divides_exactly() -> None:
    """Its gradient is a constant, which every sample has to count."""
    graph = linear(np.arange(8.0).reshape(1, 2, 4))
    device = FixedDevice(Formats(Numerics(uniform="q16.4")), 48)
    for n_samples in (1, 2, 4, 16):
        found = run("smoothgrad", graph, np.ones((1, 1, 2, 4)), device, n_samples=n_samples)
        assert found[0].tolist() == np.arange(8.0).reshape(1, 2, 4).tolist()


# Fixed point ----------------------------------------------------------------------------------------------------------

CASES = [
    (method, source, options)
    for method, options in (("smoothgrad", {}), ("smoothgrad", {"variant": "squared"}),
                            ("smoothgrad", {"variant": "vargrad"}), ("smooth_taylor", {}))
    for source in ("host", "lfsr")
]  # fmt: skip


@pytest.mark.parametrize(("method", "source", "options"), CASES)
def test_bits_do_not_depend_on_the_batch_and_are_near_float(method: str, source: str, options: dict[str, Any]) -> None:
    given = {"n_samples": 10, "noise": source, **options}
    real = run(method, **given)
    whole = run(method, device=fixed(method, **given), **given)
    assert 10 * np.log10((real**2).sum() / ((whole - real) ** 2).sum()) > 40
    for batch in (1, 3, 10):
        assert (run(method, device=fixed(method, batch=batch, **given), **given) == whole).all()


def test_both_devices_see_the_very_same_noise() -> None:
    seen: dict[str, list[np.ndarray]] = {}
    for source in ("host", "lfsr"):
        real, integers = [], []
        given = {"n_samples": 3, "sigma": 0.2, "noise": source}
        own = FloatDevice(observe=lambda name, v, into=real: into.append(v) if name == "smooth.noise" else None)
        run("smoothgrad", device=own, **given)
        device = fixed("smoothgrad", **given)
        device.observe = lambda name, v, into=integers: into.append(v) if name == "smooth.noise" else None
        run("smoothgrad", device=device, **given)
        assert (real[0] == integers[0] * UNIT.step).all()
        seen[source] = real
    assert not (seen["host"][0] == seen["lfsr"][0]).all()


@pytest.mark.parametrize("source", ["host", "lfsr"])
@pytest.mark.parametrize("method", ["smoothgrad", "smooth_taylor"])
def test_two_halves_that_are_alike_are_the_whole(method: str, source: str) -> None:
    """Noise has its own format in either half, whatever calibration made of its name."""
    given = {"n_samples": 5, "noise": source}
    whole = run(method, device=fixed(method, **given), **given)
    mixed = MixedDevice(fixed(method, **given), fixed(method, **given), NET)
    assert (run(method, device=mixed, **given) == whole).all()


def test_noise_of_a_trip_that_is_no_integer_is_refused() -> None:
    b = GraphBuilder()
    b.input("trip", TensorType((), FixedPoint(16, 4)))
    with pytest.raises(ValueError, match=r"noise follows from the number of a trip, an integer, not q16\.4"):
        b.add("noise", "noise", "trip", shape=SHAPE, seed=0)


def test_a_running_sum_of_gradients_has_the_width_that_is_asked_for() -> None:
    for bits, width in ((None, 16 + 12), (24, 24)):
        device = FixedDevice(Formats(Numerics(running_sum=bits)), 48)
        run("smoothgrad", device=device, n_samples=2)
        (total,) = (node for node in device.program[1].graph.nodes if node.op == "accumulate")
        assert total.type.element_bits == width


# On the machine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [11, 20])
@pytest.mark.parametrize(("method", "source", "options"), CASES)
def test_modelled_memories_give_the_same_bits(
    method: str, source: str, options: dict[str, Any], n_samples: int
) -> None:
    """Eleven trips of one sample each, or two of ten: what a trip has of its own lies further on in each."""
    given = {"n_samples": n_samples, "noise": source, **options}
    device = fixed(method, RecordingDevice, **given)
    run(method, device=device, **given)
    assert isinstance(device, RecordingDevice)
    for launched in device.runs:
        checked = check(launched, ARCH)
        assert checked.equal, checked


def test_noise_that_reads_another_trips_record_is_found() -> None:
    device = fixed("smoothgrad", RecordingDevice, n_samples=11)
    run("smoothgrad", device=device, n_samples=11)
    assert isinstance(device, RecordingDevice)
    launched = device.runs[1]
    turned = np.roll(launched.feeds["smooth.noise"], 1, axis=0)
    turned[0] = 0
    assert not check(launched._replace(feeds={**launched.feeds, "smooth.noise": turned}), ARCH).equal


def test_a_profile_is_an_explanation_cycle_for_cycle() -> None:
    """What is stored has a width that no weight decides."""
    device = fixed("smoothgrad", n_samples=11)
    run("smoothgrad", device=device, n_samples=11)
    assert time_program(device.program, ARCH).cycles == timed("host", 11).cycles


def timed(source: str, n_samples: int, arch: Architecture = ARCH) -> ProgramTiming:
    device = DryDevice(Formats(Numerics()), 48)
    run("smoothgrad", device=device, n_samples=n_samples, noise=source)
    return time_program(device.program, arch)


def test_noise_of_the_host_is_drawn_before_the_launch_and_loaded_in_every_trip() -> None:
    host, chip = timed("host", 11), timed("lfsr", 11)
    size = int(np.prod(SHAPE))
    drawing = [launch.launch.host_operations for launch in host.launches]
    assert drawing == [11 * size * HOST_WORK, 0, 0]
    assert sum(launch.launch.host_operations for launch in chip.launches) == 0
    loop = [t.launches[1] for t in (host, chip)]
    dram = [t.schedule.tiles.read_bytes[:, 0].sum() for t in loop]
    burst = ARCH.dram.burst_bytes
    assert dram[0] - dram[1] == -(-2 * size // burst) * burst
    assert host.peak_bytes["dram"] - chip.peak_bytes["dram"] == pytest.approx(11 * 2 * size, abs=11 * 64)
    assert host.cycles > chip.cycles


def test_noise_of_the_chip_is_a_number_per_lane_and_cycle_and_eleven_additions_and_a_product_each() -> None:
    host, chip = timed("host", 11), timed("lfsr", 11)
    registers, numbers = chip_noise(0), 11 * int(np.prod(SHAPE))
    count = {item.what: item.count for item in chip.energy}
    before = {item.what: item.count for item in host.energy}
    assert (registers.words, registers.sum_bits) == (12, 20)
    assert count["operation 20 bit"] - before.get("operation 20 bit", 0) == 11 * numbers
    assert count["product 20x16 bit"] - before.get("product 20x16 bit", 0) == numbers
    stage = chip.launches[1].schedule.stages[0]
    assert (stage.anchor.op, [o.role for o in stage.operands]) == ("noise", ["tail"])
    assert chip.launches[1].schedule.plan.problems[0].work_per_output == 1


def test_more_samples_than_the_dram_holds_are_refused_with_what_they_need() -> None:
    data = ARCH.model_dump(mode="json")
    data["memories"][0]["size"] = "16KiB"
    small = load_data(Architecture, data)
    assert timed("lfsr", 200, small).cycles > 0
    with pytest.raises(UserError, match=r"the kernel needs .* bytes of dram, which has 16384"):
        timed("host", 200, small)


# What users write -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.1, "stdev_spread": 0.1}, "sigma 0.1 and stdev_spread 0.1 both say how strong the noise is"),
        ({"rule": "riemann_left"}, "method smoothgrad takes no option 'rule'; it takes n_samples, sigma"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(Experiment(model="cifar_cnn", method="smoothgrad", options=Options(**options)), values=False)


def test_shown_options_leave_out_what_is_not_set() -> None:
    p = prepare(Experiment(model="cifar_cnn", method="smoothgrad"), values=False)
    assert p.shown_options == {
        "n_samples": 50, "variant": "plain", "score": "logit", "noise": "host", "noise_seed": 0,
    }  # fmt: skip
    other = replace(p, options={**p.options, "sigma": 0.5})
    assert other.shown_options["sigma"] == 0.5
    assert other.content_hash() != p.content_hash()
