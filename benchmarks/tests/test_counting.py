import pytest
import torch

from benchmarks.counting import count


def counters(run):
    return count(lambda: run)


def test_peak_bytes_are_those_held_at_one_time():
    def run():
        first = torch.empty(1000)
        del first
        torch.empty(600), torch.empty(500)

    assert counters(run).peak_bytes == 4400


def test_memory_of_an_earlier_count_is_not_subtracted_from_the_peak():
    kept = []

    def run():
        kept.clear()
        kept.extend(torch.empty(1000) for _ in range(100))

    assert [counters(run).peak_bytes for _ in range(3)] == [400_000] * 3


def test_saved_storages_count_once_together_with_their_views():
    x = torch.ones(100, requires_grad=True)
    assert counters(lambda: (x * x[:] * 2).sum().backward()).saved_bytes == 400


def test_copies_by_other_operators_count():
    x = torch.ones(2, 3)
    assert counters(lambda: (x.t().contiguous(), x.clone(), x.double(), x.t().reshape(-1))).copies == 4
    assert counters(lambda: (x.contiguous(), x.float(), x.reshape(-1), x.t())).copies == 0


def test_every_operator_is_a_launch():
    x = torch.ones(3)
    assert counters(lambda: (x + x) * x).launches == 2


def test_a_graph_is_counted_once_unless_it_is_compiled_again():
    x = torch.ones(3)
    assert counters(torch.compile(lambda: x + 1, backend="eager")).graphs == 1
    lengths = iter(range(2, 9))
    again = torch.compile(torch.sin, backend="eager", dynamic=False)
    assert counters(lambda: again(torch.ones(next(lengths)))).graphs == 3


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_kernels_generated_by_inductor_are_launches():
    x = torch.ones(3)
    fused = torch.compile(lambda: (x + 1).sin())
    assert counters(fused).launches == 1
