"""Is each operator right? Against torch on float64 and plain integer loops."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xaisim.attribution.kernels import interpolation
from xaisim.ir import kernels
from xaisim.ir.graph import GraphBuilder, evaluate, verify
from xaisim.ir.types import FixedPoint, TensorType

torch = pytest.importorskip("torch")
F = torch.nn.functional
RNG = np.random.default_rng(1)


def apply(op: str, *operands: np.ndarray, **attrs: Any) -> np.ndarray:
    """Evaluate one operator on operands with a batch axis."""
    b = GraphBuilder()
    names = [b.input(f"x{i}", TensorType(a.shape[1:])) for i, a in enumerate(operands)]
    graph = b.build(b.add("y", op, *names, **attrs))
    verify(graph)
    return evaluate(graph, dict(zip(names, operands, strict=True)))["y"]


def apply_integers(op: str, *operands: np.ndarray, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate one operator on 16-bit integers, fast and naively."""
    b = GraphBuilder()
    names = [b.input(f"x{i}", TensorType(a.shape[1:], FixedPoint(16, 0))) for i, a in enumerate(operands)]
    graph = b.build(b.add("y", op, *names, **attrs))
    feeds = dict(zip(names, operands, strict=True))
    return evaluate(graph, feeds)["y"], naive.run(graph, feeds)["y"]


def assert_close(actual: np.ndarray, expected: Any) -> None:
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def integers(seed: int, *shape: int, low: int = -100, high: int = 100) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high + 1, shape)


def zero_inserted(x: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    dy, dx = dilation
    out = np.zeros((*x.shape[:2], (x.shape[2] - 1) * dy + 1, (x.shape[3] - 1) * dx + 1), x.dtype)
    out[:, :, ::dy, ::dx] = x
    return out


# Convolution ----------------------------------------------------------------------------------------------------------

small = st.integers(1, 3)
pads = st.integers(-1, 3)


@given(
    shape=st.tuples(small, st.integers(4, 7), st.integers(4, 7)),
    filters=small,
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    dilation=st.tuples(small, small),
    padding=st.tuples(pads, pads, pads, pads),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 99),
)
def test_conv_with_any_padding_stride_and_input_dilation_equals_torch_and_the_loops(
    shape: Any, filters: int, kernel: Any, stride: Any, dilation: Any, padding: Any, flags: Any, seed: int
) -> None:
    transposed, bias, dilated = flags
    stride, dilation = ((1, 1), dilation) if dilated else (stride, (1, 1))
    if shape[1] + padding[0] + padding[2] < kernel[0] or shape[2] + padding[1] + padding[3] < kernel[1]:
        return
    x = integers(seed, 2, *shape)
    channels = (shape[0], filters) if transposed else (filters, shape[0])
    w = integers(seed + 1, 1, *channels, *kernel)
    operands = [x, w, integers(seed + 2, 1, filters)] if bias else [x, w]
    attrs = {"stride": stride, "dilation": dilation, "padding": padding, "transposed": transposed}
    fast, slow = apply_integers("conv", *operands, **attrs, bound=100 * 101 * 27)
    assert (fast == slow).all()

    top, left, bottom, right = padding
    spread = F.pad(torch.tensor(zero_inserted(x, dilation), dtype=torch.float64), (left, right, top, bottom))
    filters_of_torch = torch.tensor(w[0], dtype=torch.float64)
    if transposed:
        filters_of_torch = filters_of_torch.transpose(0, 1).flip(2, 3)
    b = torch.tensor(operands[2][0], dtype=torch.float64) if bias else None
    expected = F.conv2d(spread, filters_of_torch, b, stride=stride).numpy()
    assert (fast == expected).all()
    assert_close(apply("conv", *(a.astype(np.float64) for a in operands), **attrs), expected)


def test_conv_transposed_with_dilation_is_the_input_gradient_of_torch() -> None:
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 3, 3, 4, dtype=torch.float64)
    y = F.conv2d(x, w, stride=(2, 3), padding=(1, 2))
    g = torch.randn_like(y)
    y.backward(g)
    bottom, right = 9 - 1 - ((y.shape[2] - 1) * 2 + 1 + 1 - 3), 8 - 1 - ((y.shape[3] - 1) * 3 + 1 + 1 - 4)
    actual = apply("conv", g.numpy(), w.numpy()[None], stride=(1, 1), dilation=(2, 3),
                   padding=(1, 1, bottom, right), transposed=True)  # fmt: skip
    assert_close(actual, x.grad)


def test_conv_takes_weights_of_its_own_for_every_sample() -> None:
    x, w = RNG.normal(size=(3, 4, 5, 5)), RNG.normal(size=(3, 1, 4, 1, 1))
    actual = apply("conv", x, w, stride=(1, 1), padding=(0, 0, 0, 0))
    assert_close(actual, np.einsum("nchw,nkc->nkhw", x, w[..., 0, 0]))


def test_conv_refuses_a_stride_together_with_an_input_dilation() -> None:
    b = GraphBuilder()
    b.input("x", TensorType((1, 4, 4)))
    b.input("w", TensorType((1, 1, 2, 2)))
    with pytest.raises(ValueError, match="conv with an input dilation needs stride 1x1, got 2x2"):
        b.add("y", "conv", "x", "w", stride=(2, 2), dilation=(2, 2), padding=(0, 0, 0, 0))


@pytest.mark.parametrize(("size", "outputs"), [(1, 7), (2, 8), (5, 3)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [-2, 0, 1, 5])
def test_phases_visit_every_tap_on_a_real_element_once(
    kernel: int, dilation: int, padding: int, size: int, outputs: int
) -> None:
    del size
    visited = set()
    for a, tap, taps, corner, count in kernels.phases(kernel, padding, dilation, outputs):
        for m in range(count):
            for t in range(taps):
                element = m + t - corner
                visited.add((a + m * dilation, tap + t * dilation, element))
    expected = {
        (p, r, (p + r - padding) // dilation)
        for p in range(outputs)
        for r in range(kernel)
        if (p + r - padding) % dilation == 0
    }
    assert visited == expected


@pytest.mark.parametrize("bound", [1 << 20, 1 << 40, 1 << 61])
def test_float32_float64_and_int64_products_agree_with_big_integers(bound: int) -> None:
    largest = int((bound // 12) ** 0.5)
    w, x = integers(3, 5, 12, low=-largest, high=largest), integers(4, 2, 12, 7, low=-largest, high=largest)
    product = kernels.matmul(w, x, bound)
    expected = naive.objects(w) @ naive.objects(x)
    assert kernels.product_dtype(bound) == {20: np.float32, 40: np.float64, 61: np.int64}[bound.bit_length() - 1]
    assert product.dtype == np.int64
    assert (product == expected).all()


@pytest.mark.parametrize("edge", [(1 << 24) - 1, 1 << 24, (1 << 53) - 1, 1 << 53])
def test_a_product_at_the_limit_of_a_float_is_still_exact(edge: int) -> None:
    w, x = np.array([[1, 1]]), np.array([[[edge - 1], [1]]])
    assert kernels.matmul(w, x, edge)[0, 0, 0] == edge


# Linear, pools, views, element by element -----------------------------------------------------------------------------


def test_linear_equals_torch_forward_and_transposed() -> None:
    x, w, b = RNG.normal(size=(3, 6)), RNG.normal(size=(1, 4, 6)), RNG.normal(size=(1, 4))
    assert_close(apply("linear", x, w, b), F.linear(*map(torch.tensor, (x, w[0], b[0]))))
    g = RNG.normal(size=(3, 4))
    assert_close(apply("linear", g, w, transposed=True), g @ w[0])


POOLS = [((2, 2), (2, 2), 0), ((3, 3), (2, 2), 0), ((3, 3), (2, 2), 1), ((3, 2), (1, 3), (1, 0)), ((3, 3), (1, 1), 1)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
def test_max_pool_index_and_unpool_equal_torch_with_ties_to_the_first(kernel: Any, stride: Any, padding: Any) -> None:
    py, px = (padding, padding) if isinstance(padding, int) else padding
    x = integers(5, 2, 3, 8, 7, low=0, high=3).astype(np.float64)  # few values: many ties
    window = {"kernel": kernel, "stride": stride, "padding": (py, px, py, px)}
    traced = torch.tensor(x, requires_grad=True)
    expected, places = F.max_pool2d(traced, kernel, stride, (py, px), return_indices=True)
    assert_close(apply("maxpool", x, **window), expected.detach())
    index = apply("pool_index", x, **window)
    p, q = np.meshgrid(range(expected.shape[2]), range(expected.shape[3]), indexing="ij")
    h, w = p * stride[0] + index // kernel[1] - py, q * stride[1] + index % kernel[1] - px
    assert (h * 7 + w == places.numpy()).all()
    g = RNG.normal(size=expected.shape)
    expected.backward(torch.tensor(g))
    assert_close(apply("unpool", g, index, shape=(3, 8, 7), **window), traced.grad)


@given(
    kernel=st.tuples(small, small), stride=st.tuples(small, small), seed=st.integers(0, 99),
    padding=st.tuples(*[st.integers(0, 1)] * 4),
)  # fmt: skip
def test_pools_with_uneven_padding_equal_the_loops(kernel: Any, stride: Any, padding: Any, seed: int) -> None:
    padding = tuple(min(pad, kernel[i % 2] // 2) for i, pad in enumerate(padding))
    x = integers(seed, 2, 2, 5, 6, low=-3, high=0)
    window = {"kernel": kernel, "stride": stride, "padding": padding}
    for op in ("maxpool", "pool_index"):
        fast, slow = apply_integers(op, x, **window)
        assert (fast == slow).all()
    index, _ = apply_integers("pool_index", x, **window)
    fast, slow = apply_integers("unpool", index * 7 - 3, index, shape=x.shape[1:], **window)
    assert (fast == slow).all()
    fast, slow = apply_integers("avgpool", x, np.array([3]), **window)
    assert (fast == slow).all()


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
def test_average_pool_counts_the_padding_and_its_dilated_form_is_its_gradient(
    kernel: Any, stride: Any, padding: Any
) -> None:
    py, px = (padding, padding) if isinstance(padding, int) else padding
    x = torch.randn(2, 3, 8, 7, dtype=torch.float64, requires_grad=True)
    scale = np.full((1,), 1 / np.prod(kernel))
    expected = F.avg_pool2d(x, kernel, stride, (py, px))
    actual = apply("avgpool", x.detach().numpy(), scale, kernel=kernel, stride=stride, padding=(py, px, py, px))
    assert_close(actual, expected.detach())
    g = torch.randn_like(expected)
    expected.backward(g)
    before = (kernel[0] - 1 - py, kernel[1] - 1 - px)
    after = [
        n - 1 - ((p - 1) * s + 1 + b - k)
        for n, p, s, b, k in zip((8, 7), expected.shape[2:], stride, before, kernel, strict=True)
    ]
    actual = apply("avgpool", g.numpy(), scale, kernel=kernel, stride=(1, 1), dilation=stride,
                   padding=(*before, *after))  # fmt: skip
    assert_close(actual, x.grad)


def test_windows_over_no_element_at_all_sum_to_zero() -> None:
    beyond = np.full((1, 1, 2, 3), np.nan)  # what an empty tile of a larger memory lies in front of
    out = np.ones((1, 1, 1, 2))
    kernels.window_sum(beyond[:, :, :0], out, 2, 2, 1, 1, 2, 0, 1, 1)
    assert (out == 0).all()


@pytest.mark.parametrize(("small_side", "large_side"), [(1, 5), (2, 4), (4, 32), (7, 224), (3, 8), (5, 5), (8, 3)])
def test_upsample_with_interpolation_equals_torch_bilinear(small_side: int, large_side: int) -> None:
    x = RNG.normal(size=(2, 1, small_side, small_side + 1))
    rows, columns = interpolation(small_side, large_side), interpolation(small_side + 1, large_side + 3)
    expected = F.interpolate(torch.tensor(x), (large_side, large_side + 3), mode="bilinear", align_corners=False)
    assert_close(apply("upsample", x, rows[None], columns[None]), expected)


def test_views_and_elementwise_operators_equal_numpy() -> None:
    a, b = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 4, 5))
    assert_close(apply("concat", a, b[:1]), np.concatenate([a, np.broadcast_to(b[:1], b.shape)], axis=1))
    assert_close(apply("slice", a, start=1, stop=3), a[:, 1:3])
    assert_close(apply("reshape", a, shape=(60,)), a.reshape(2, 60))
    assert_close(apply("relu", a), np.maximum(a, 0))
    assert_close(apply("positive", a), (a > 0).astype(float))
    assert_close(apply("gate", a, (b > 0).astype(int)), a * (b > 0))
    assert_close(apply("add", a, b), a + b)
    assert_close(apply("sub", a, b), a - b)
    assert_close(apply("mul", a, b), a * b)
    assert_close(apply("accumulate", a), a.sum(axis=0, keepdims=True))


def test_a_scalar_per_sample_multiplies_whole_samples() -> None:
    a, s = RNG.normal(size=(3, 2, 4, 4)), RNG.normal(size=(3,))
    assert_close(apply("mul", a, s), a * s[:, None, None, None])


def test_relu_and_its_mask_are_zero_at_zero() -> None:
    x = np.array([[-1.0, 0.0, 1.0]])
    assert apply("relu", x).tolist() == [[0, 0, 1]]
    assert apply("positive", x).tolist() == [[0, 0, 1]]
