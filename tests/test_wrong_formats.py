"""Are formats that cannot work refused, each in one line that says the rule and what would do?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from xaisim.attribution.device import Kernel
from xaisim.cli import main
from xaisim.config import UserError
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType
from xaisim.numerics.devices import FixedDevice
from xaisim.numerics.formats import Formats, Numerics, load_numerics


def linear(weights: list[list[float]], bias: list[float] | None = None) -> Graph:
    b = GraphBuilder()
    b.input("input", TensorType((len(weights[0]),)))
    args = ["input", b.constant("w", np.array(weights))]
    if bias is not None:
        args.append(b.constant("b", np.array(bias)))
    return b.build(b.add("logits", "linear", *args))


def compiled(graph: Graph, n: Numerics, accumulator_bits: int = 48) -> Graph:
    device = FixedDevice(Formats(n), accumulator_bits)
    device.launch(Kernel("forward", graph), {"input": np.ones((1, 2))})
    return device.program[0].graph


@pytest.mark.parametrize(
    ("numerics", "message"),
    [
        ("q0.0", "numerics 'q0.0': a tensor has 2 to 32 bits, not 0"),
        ("q1.0", "numerics 'q1.0': a tensor has 2 to 32 bits, not 1"),
        ("q33.0", "numerics 'q33.0': a tensor has 2 to 32 bits, not 33"),
        ("q16.61", "numerics 'q16.61': a tensor has -60 to 60 fraction bits, not 61"),
        ("q16.-61", "numerics 'q16.-61': a tensor has -60 to 60 fraction bits, not -61"),
        ("q16.99999999999999999999", "a tensor has -60 to 60 fraction bits, not 99999999999999999999"),
        ("fixed16:overrides.relu1=u0.0", "overrides.relu1: a tensor has 2 to 32 bits, not 0 (got 'u0.0')"),
        ("fixed16:overrides.relu1=u8.61", "overrides.relu1: a tensor has -60 to 60 fraction bits, not 61"),
        ("fixed16:running_sum=13", "running_sum: must be greater than or equal to 14 (got 13)"),
        ("fixed16:running_sum=45", "running_sum: must be less than or equal to 44 (got 45)"),
        ("q16.8:running_sum=24", "running_sum: needs calibrated formats; uniform q16.8 gives all one"),
        ("q16.8:per_channel=true", "per_channel: needs calibrated formats; uniform q16.8 gives all one"),
        ("fixed16:calibration=mse", "calibration: must be one of max, percentile, min_error (got 'mse')"),
        *[
            (f"fixed16:{key}={bits}", f"{key}: must be {rule} (got {bits})")
            for key in ("weights", "activations", "gradients", "attributions", "path")
            for bits, rule in ((0, "greater than or equal to 2"), (1, "greater than or equal to 2"),
                               (33, "less than or equal to 32"))
        ],
    ],
)  # fmt: skip
def test_a_format_that_does_not_exist_is_refused_in_one_line(numerics: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_numerics(numerics)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("numerics", ["q2.0", "q32.60", "q32.-60", "fixed16:overrides.relu1=q2.60"])
def test_the_outermost_formats_exist(numerics: str) -> None:
    chosen = load_numerics(numerics)
    assert numerics in (chosen.uniform, f"fixed16:overrides.relu1={chosen.overrides.get('relu1')}")


@pytest.mark.parametrize(
    ("uniform", "message"),
    [
        ("q4.0", "all its values, 0.01 to 0.4 without their signs, round to zero (q4.4 would hold them)"),
        ("q16.-3", "all its values, 0.01 to 0.4 without their signs, round to zero (q16.16 would hold them)"),
        ("q4.12", "all its values, 0.01 to 0.4 without their signs, saturate (q4.4 would hold them)"),
    ],
)
def test_a_uniform_format_in_which_nothing_is_left_of_a_weight_is_refused(uniform: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        compiled(linear([[0.4, -0.01]]), Numerics(uniform=uniform))
    assert str(error.value) == f"w: uniform {uniform} is too narrow: {message}"


@pytest.mark.parametrize("uniform", ["q4.1", "q4.9", "q2.1"])
def test_a_uniform_format_in_which_something_is_left_is_taken(uniform: str) -> None:
    some = compiled(linear([[0.4, -0.01]]), Numerics(uniform=uniform)).constants["w"].value
    assert some is not None
    assert some.any()
    none = compiled(linear([[0.0, 0.0]]), Numerics(uniform=uniform)).constants["w"].value
    assert none is not None
    assert not none.any()


def test_a_sum_that_starts_with_a_large_bias_is_refused_with_a_width_that_does() -> None:
    """At 20 fraction bits a bias of 3·10^6 takes 42 bits and a sign, and the products carry it to 2^42."""
    graph, n = linear([[0.5, 0.5]], [4.19e6]), Numerics(uniform="q16.10")
    with pytest.raises(UserError) as error:
        compiled(graph, n, 40)
    needed = int(str(error.value).split("it needs ")[1].split()[0])
    with pytest.raises(UserError, match=f"it needs {needed} bits"):
        compiled(graph, n, needed - 1)
    compiled(graph, n, needed)


def test_more_than_the_widest_accumulator_is_not_proposed() -> None:
    graph = linear([[0.5, 0.5]], [3.0])
    n = Numerics(overrides={"input": "q16.55"})
    with pytest.raises(UserError, match=r"it needs 5\d bits \(narrower formats or a wider accumulator_bits would do\)"):
        compiled(graph, Numerics(overrides={"input": "q16.40"}), 48)
    with pytest.raises(
        UserError, match=r"cannot hold a sum of up to 2\^7\d; it needs 7\d bits \(narrower formats would"
    ):
        compiled(graph, n, 64)


def test_an_interpolation_of_too_many_fraction_bits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fine.yaml"
    path.write_text("overrides: {gradcam.rows: q16.60, gradcam.columns: q16.60, gradcam.map: q16.60}\n")
    command = [
        "explain",
        "--model",
        "cifar_cnn",
        "--method",
        "gradcam",
        "--numerics",
        str(path),
        "-o",
        str(tmp_path / "o"),
    ]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: attribution: its sum would have 180 fraction bits, and no more than 128 are carried "
        "(fewer fraction bits of gradcam.map, gradcam.rows, gradcam.columns would do)\n"
    )


def test_the_command_line_says_it_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    for numerics in ("q0.0", "q4.0"):
        command = ["explain", "--model", "cifar_cnn", "--method", "saliency", "--numerics", numerics]
        result = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "out")])
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
