"""Can single keys and single tensors be changed, and does a change touch nothing else?"""

from __future__ import annotations

import pytest

from xaisim.api import experiment_of
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError
from xaisim.experiment import prepare
from xaisim.ir.graph import Graph
from xaisim.ir.types import Overflow, Rounding
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats, load_numerics


def compiled(numerics: str) -> Graph:
    p = prepare(experiment_of(model="cifar_cnn", method="saliency", numerics=numerics), values=False)
    dry = DryDevice(Formats(p.numerics), p.arch.array.accumulator_bits)
    METHODS["saliency"].run(dry, p.model.graph, p.sample.x, 0)
    return dry.program[0].graph


def requants(graph: Graph) -> dict[str, object]:
    return {node.name: node.attrs["to"] for node in graph.nodes if node.op == "requant"}


def test_changed_keys_change_nothing_else() -> None:
    changed = load_numerics("fixed16:rounding=trn,weights=12,overrides.layer1.0.relu=q8.4/wrap")
    expected = load_numerics("fixed16").model_dump()
    expected |= {"rounding": Rounding.TRN, "weights": 12, "overrides": {"layer1.0.relu": "q8.4/wrap"}}
    assert changed.model_dump() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trn", (None, Rounding.TRN, Overflow.SAT)),
        ("wrap", (None, Rounding.RND, Overflow.WRAP)),
        ("q8.4/rnd_conv", ("q8.4", Rounding.RND_CONV, Overflow.SAT)),
        ("u8.4/sat_sym/trn_zero", ("u8.4", Rounding.TRN_ZERO, Overflow.SAT_SYM)),
    ],
)
def test_an_override_reaches_its_tensor_alone(text: str, expected: tuple[str | None, Rounding, Overflow]) -> None:
    base, changed = requants(compiled("fixed16")), requants(compiled(f"fixed16:overrides.relu1={text}"))
    assert {name for name in base if base[name] != changed[name]} == {"conv1"}  # relu1 is where it is stored
    format, rounding, overflow = expected
    own = changed["conv1"]
    assert (str(own), own.rounding, own.overflow) == (format or str(base["conv1"]), rounding, overflow)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fixed16:roundin=trn", "numerics 'fixed16:roundin=trn': roundin: unknown key; did you mean 'rounding'?"),
        ("fixed16:rounding=up", "numerics 'fixed16:rounding=up': rounding: must be one of trn, trn_zero, rnd,"),
        ("fixed16:weights=8,weights=4", "numerics 'fixed16:weights=8,weights=4': weights is given twice"),
        ("fixed16:weights=", "numerics 'fixed16:weights=': a change is written key=value, got 'weights='"),
        ("fixed16:weights=8,path", "numerics 'fixed16:weights=8,path': a change is written key=value, got 'path'"),
        ("q16.8:weights=8", "numerics 'q16.8:weights=8': weights is given by the uniform format q16.8"),
        ("fixed61:weights=8", "unknown numerics 'fixed61'; choices: fixed16, fixed8,"),
        ("fixed16:overrides.a=trn/trn", "numerics 'fixed16:overrides.a=trn/trn': overrides.a: write a format"),
        ("fixed16:overrides.a=q8.4/up", "numerics 'fixed16:overrides.a=q8.4/up': overrides.a: write a format"),
    ],
)  # fmt: skip
def test_a_wrong_change_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        load_numerics(text)
    assert str(error.value).startswith(told)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["input", "conv1.w"])
def test_a_mode_for_what_the_host_converts_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"numerics.overrides: {name} is converted by the host, to nearest"):
        prepare(experiment_of(model="cifar_cnn", method="saliency", numerics=f"fixed16:overrides.{name}=trn"))
