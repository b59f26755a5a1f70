"""Compiled functions: the limit on forms holds during each call, raises, and leaves torch's settings alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from dreamer4_impl.compilation import FORMS, TooManyFormsError, compile_module, compiled

#: More than the 8 forms after which torch runs uncompiled.
MANY = 12


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Forms:
    """A backend that counts what it compiles and records the limit in force."""

    def __init__(self):
        self.count, self.limits = 0, set()

    def __call__(self, graph, inputs):
        self.count += 1
        self.limits.add(torch._dynamo.config.recompile_limit)
        return graph


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def double(x):
    return 2 * x


def test_more_forms_than_torch_allows_are_compiled():
    backend = Forms()
    program = compiled(double, backend=backend, dynamic=False)
    for length in range(2, 2 + MANY):
        assert program(torch.ones(length)).sum() == 2 * length
    assert (backend.count, backend.limits) == (MANY, {FORMS})


def test_a_form_beyond_the_limit_raises_and_earlier_forms_still_run(monkeypatch):
    program = compiled(double, forms=MANY, backend="eager", dynamic=False)
    for length in range(2, 2 + MANY):
        program(torch.ones(length))
    with pytest.raises(
        TooManyFormsError, match=rf"double needs more compiled forms than {MANY}: use fewer distinct shapes"
    ):
        program(torch.ones(100))
    assert program(torch.ones(2)).tolist() == [2, 2]


def test_a_higher_limit_of_the_user_is_respected():
    program = compiled(double, forms=1, backend="eager", dynamic=False)
    with torch._dynamo.config.patch(recompile_limit=2):
        program(torch.ones(2))
        program(torch.ones(3))
        with pytest.raises(TooManyFormsError, match="forms than 2"):
            program(torch.ones(4))


def test_the_settings_of_torch_are_those_of_before():
    before = torch._dynamo.config.recompile_limit
    compiled(double, backend="eager")(torch.ones(2))
    assert torch._dynamo.config.recompile_limit == before


def test_modules_of_a_class_share_the_limit_in_every_thread():
    backend, layers = Forms(), [Scale(factor) for factor in range(1, 1 + MANY)]
    for layer in layers:
        compile_module(layer, backend=backend, dynamic=False)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(lambda: [float(layer(torch.ones(()))) for layer in layers]).result()
    assert got == [layer.factor for layer in layers]
    assert (backend.count, backend.limits) == (MANY, {FORMS})


def test_within_a_larger_graph_nothing_is_compiled_apart():
    program, backend = compiled(double), Forms()
    assert torch.compile(lambda x: program(x) + 1, fullgraph=True, backend=backend)(torch.ones(2)).tolist() == [3, 3]
    assert backend.count == 1
