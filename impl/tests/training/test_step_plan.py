"""Plans of steps, sample groups, and keyed draws."""

from collections import Counter

import numpy as np
import pytest
import torch

from dreamer4_impl.checkpoints.settings import Batches, TrainingSettings
from dreamer4_impl.generation.draws import dropout_draws, keyed_generator, normal_draws, shortcut_draws, uniform_draws
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training.sample_groups import sample_groups
from dreamer4_impl.training.step_plan import marked, plan_step


def settings(steps=1000, **batches):
    return TrainingSettings("agent", tiny(), steps=steps, batches=Batches(**batches))


def test_batches_alternate_short_and_long_and_end_long():
    run = settings(steps=10, size=2, long_every=4, long_only=0.2)
    lengths = [plan_step(run, step).length for step in range(10)]
    short, long = tiny().short_length, tiny().long_length
    assert lengths == [short, short, short, long] * 2 + [long, long]
    assert long > tiny().dynamics.transformer.context


def test_a_phase_can_have_its_own_short_length():
    run = settings(steps=10, size=2, long_every=4, long_only=0.2, short_length=tiny().short_length - 1)
    assert [plan_step(run, step).length for step in (0, 3, 9)] == [run.short_length, *[tiny().long_length] * 2]
    assert run.short_length == tiny().short_length - 1


@pytest.mark.parametrize("size", [1, 3, 4, 10])
def test_three_in_ten_samples_are_images_for_every_batch_size(size):
    images = [image for step in range(100) for image in plan_step(settings(size=size), step).image]
    assert sum(images) == 30 * size


def test_relevant_samples_and_images_are_chosen_independently():
    run = settings(size=10)
    plans = [plan_step(run, step, relevant_share=0.5) for step in range(200)]
    both = Counter(pair for plan in plans for pair in zip(plan.image, plan.relevant, strict=True))
    expected = {(True, True): 300, (True, False): 300, (False, True): 700, (False, False): 700}
    assert {pair: abs(both[pair] - count) < 100 for pair, count in expected.items()} == dict.fromkeys(expected, True)


def test_every_position_in_a_batch_is_marked_equally_often():
    places = torch.tensor([marked(0.5, 0, step, 8, "relevant") for step in range(400)]).sum(0)
    assert ((places - 200).abs() < 60).all()


def test_a_plan_is_a_function_of_settings_and_step():
    plans = [plan_step(settings(size=8), step, relevant_share=0.5) for step in (5, 5, 6)]
    assert plans[0] == plans[1] != plans[2]
    assert not any(plan_step(settings(size=8), 5, length=3).image)


KEYS = [("dynamics", 7, sample) for sample in range(6)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda keys: shortcut_draws(0, keys, (3, 2, 2), k_max=8).tau,
        lambda keys: shortcut_draws(0, keys, (3, 2, 2), k_max=8).z0,
        lambda keys: shortcut_draws(0, keys, (3, 2, 2), k_max=8, per="sequence", d_min_share=0.5).d,
        lambda keys: dropout_draws(0, keys, 3, 20),
        lambda keys: normal_draws(0, keys, "start", (4,)),
        lambda keys: uniform_draws(0, keys, "action", (4,)),
    ],
)
def test_draws_of_a_sample_do_not_depend_on_other_samples(draw):
    drawn = draw(KEYS)
    assert torch.equal(drawn[3:5], draw(KEYS[3:5]))
    assert len({tuple(sample.flatten().tolist()) for sample in drawn}) > 1


def test_drawing_does_not_change_the_global_random_state():
    before = torch.get_rng_state()
    shortcut_draws(0, KEYS, (3, 2, 2), k_max=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_keys_of_names_and_numbers_differ():
    seeds = {keyed_generator(*key).initial_seed() for key in ((0, 1, 2), (0, 12), (0, "1", 2), (1, 1, 2), (0, 2, 1))}
    assert len(seeds) == 5


def test_declared_split_puts_its_share_of_samples_at_d_min():
    keys = [("dynamics", 0, sample) for sample in range(2000)]
    draws = shortcut_draws(0, keys, (2, 1, 1), k_max=4, d_min_share=0.75)
    at_d_min = draws.d == 0.25
    assert torch.equal(at_d_min[:, 0], at_d_min[:, 1])
    assert abs(at_d_min[:, 0].double().mean() - 0.75) < 6 * (0.75 * 0.25 / 2000) ** 0.5
    above = draws.d[~at_d_min[:, 0]]
    assert abs((above == 1).double().mean() - 0.5) < 0.1


def test_without_split_step_sizes_are_uniform_and_on_their_grid():
    keys = [("dynamics", 0, sample) for sample in range(1000)]
    tau, d, z0 = shortcut_draws(0, keys, (4, 2, 2), k_max=4)
    for size in (1.0, 0.5, 0.25):
        assert abs((d == size).double().mean() - 1 / 3) < 0.06
    assert ((tau / d) % 1 == 0).all()
    assert (tau + d <= 1).all()
    assert abs(z0.mean()) < 0.05
    assert abs(z0.std() - 1) < 0.05


def test_an_image_is_one_unlabelled_frame():
    video, images = sample_groups([False, True, False], range(3))
    x, actions = torch.arange(6).reshape(3, 2), {"keys": torch.ones(3, 2, 4), "labelled": torch.ones(3, 2).bool()}
    assert video.take(x).tolist() == [[0, 1], [4, 5]]
    assert images.take(x).tolist() == [[2], [3]]
    assert video.actions(actions)["labelled"].all()
    assert not images.actions(actions)["labelled"].any()
    assert images.actions(actions)["keys"].shape == (2, 1, 4)


def test_every_process_has_every_sample_group():
    image = [True, False, False, False]
    divided = [sample_groups(image, indices) for indices in ([0, 2], [1, 3])]
    assert [[group.images for group in groups] for groups in divided] == [[False, True]] * 2
    assert [[group.counted for group in groups] for groups in divided] == [[True, True], [True, False]]
    assert len(sample_groups([False] * 4, [0, 2])) == 1


def test_generators_do_not_depend_on_the_type_of_an_integer():
    expected = keyed_generator(0, "name", 3).initial_seed()
    for integer in (np.int64, torch.tensor):
        assert keyed_generator(integer(0), "name", integer(3)).initial_seed() == expected
