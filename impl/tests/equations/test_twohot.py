"""Symexp two-hot: encoding, decoding and cross-entropy."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dreamer4_impl.equations.twohot import TwoHot, symexp, symlog

TWOHOT = TwoHot()
CPU = torch.device("cpu")
BINS = TWOHOT.bins(CPU, torch.float64)
VALUES = [0.0, 1e-6, -1e-6, 0.3, -2.5, 7.0, 1234.5, -1e6, 3e8, *BINS.tolist()]


def test_symlog_and_symexp_invert_each_other():
    x = torch.tensor(VALUES, dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-13, atol=0)


def test_bins_are_symmetric_about_zero_and_equally_spaced_in_symlog():
    assert torch.equal(BINS, -BINS.flip(0))
    assert BINS[127] == 0
    torch.testing.assert_close(symlog(BINS), torch.linspace(-20, 20, 255, dtype=torch.float64), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_encoding_puts_a_distribution_on_at_most_two_adjacent_bins(dtype):
    x = torch.tensor([*VALUES, 1e12, -1e12, math.inf, -math.inf], dtype=torch.float64).to(dtype)
    p = TWOHOT.encode(x)
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(len(x), dtype=p.dtype))
    for row in p:
        used = row.nonzero()[:, 0]
        assert len(used) <= 2
        assert used[-1] - used[0] <= 1


def test_a_bin_has_probability_one_on_itself():
    assert torch.equal(TWOHOT.encode(BINS), torch.eye(255, dtype=torch.float64))


def test_values_beyond_the_range_lie_wholly_on_the_outermost_bin():
    p = TWOHOT.encode(torch.tensor([-math.inf, -1e9, 1e9, math.inf]))
    assert p.argmax(-1).tolist() == [0, 0, 254, 254]
    assert (p.max(-1).values == 1).all()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_decoding_an_encoded_value_returns_it(dtype, bound):
    x = torch.tensor(VALUES, dtype=dtype)
    # The weights are rounded: near 0 the error is a fraction of the bin's width of 0.17.
    width = 0.17 * torch.finfo(dtype).eps
    torch.testing.assert_close(TWOHOT.decode(TWOHOT.encode(x).log()), x, rtol=bound, atol=width)


def test_decoding_a_mixture_returns_the_mean_of_the_raw_values():
    p = (TWOHOT.encode(torch.tensor(10.0).double()) + TWOHOT.encode(torch.tensor(1000.0).double())) / 2
    assert float(TWOHOT.decode(p.log())) == pytest.approx(505.0, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [0.0, 3.7, -50.0])
def test_uniform_logits_decode_to_exactly_zero(dtype, level):
    assert TWOHOT.decode(torch.full((2, 255), level, dtype=dtype)).tolist() == [0.0, 0.0]


def test_cross_entropy_equals_that_of_the_encoding_and_so_does_its_gradient():
    logits = torch.randn(len(VALUES), 255, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, (first, second) = torch.tensor(VALUES, dtype=torch.float64), (logits.clone().requires_grad_() for _ in range(2))
    expected = -(TWOHOT.encode(x) * first.log_softmax(-1)).sum(-1)
    got = TWOHOT.cross_entropy(second, x)
    torch.testing.assert_close(got, expected)
    expected.sum().backward()
    got.sum().backward()
    torch.testing.assert_close(second.grad, first.grad)


def test_nan_is_visible():
    nan = torch.tensor([math.nan])
    assert TWOHOT.encode(nan).isnan().any()
    assert TWOHOT.cross_entropy(torch.zeros(1, 255), nan).isnan().all()
    assert TWOHOT.decode(torch.full((1, 255), math.nan)).isnan().all()


def test_strided_values_are_encoded_like_dense_ones():
    x = torch.linspace(-3, 3, 12).reshape(3, 4)
    assert torch.equal(TWOHOT.encode(x.T), TWOHOT.encode(x).transpose(0, 1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TwoHot(num_bins=254), ValueError, "num_bins must be odd and at least 3; got 254"),
        (lambda: TwoHot(limit=0.0), ValueError, "limit must be above 0 and finite; got 0.0"),
        (lambda: TWOHOT.decode(torch.zeros(2, 41)), ValueError, "logits must have 255 bins on the last axis"),
        (lambda: TWOHOT.encode(torch.zeros(2).long()), TypeError, "x must be a floating-point tensor"),
        (lambda: TWOHOT.cross_entropy(torch.zeros(2, 255), torch.zeros(3)), ValueError, "x must have shape"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_encoding_writes_its_result_once():
    class Results(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.operators = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.numel() == 64 * 255:
                self.operators.append(function.overloadpacket.__name__)
            return out

    with Results() as results:
        TwoHot().encode(torch.linspace(-9.0, 9.0, 64))
    assert results.operators == ["new_zeros", "scatter_"]
