"""Bad input raises a message that names the equation, the argument, what was received and what is needed."""

import re
from collections.abc import Callable
from fractions import Fraction

import jaxtyping
import numpy as np
import pytest

from dreamer4_reference import eq02_sampling as eq02
from dreamer4_reference import eq04_grid as eq04
from dreamer4_reference import eq06_07_shortcut_forcing as eq07
from dreamer4_reference import eq09_multi_token as eq09
from dreamer4_reference import eq10_lambda_return as eq10
from dreamer4_reference import eq11_pmpo as eq11
from dreamer4_reference import twohot
from dreamer4_reference.eq01_corruption import corrupt, velocity
from dreamer4_reference.eq03_shortcut_target import shortcut_target
from dreamer4_reference.eq08_ramp_weight import ramp_weight
from dreamer4_reference.loss_normalisation import RunningRMS

Array = np.ndarray
Call = Callable[[], object]
nan = np.nan
z = np.zeros((2, 3, 1, 1))
tau = np.zeros((2, 3))
d = np.full((2, 3), 0.5)
bins = np.array([-1.0, 0.0, 1.0])
rows = np.zeros((2, 3))
flags = np.zeros((2, 3, 1), bool)


def same(z: Array, tau: Array, d: Array, actions: object = None) -> Array:
    return z


def loss(**change: object) -> object:
    case = {"network": same, "z0": z, "z1": z, "tau": tau, "d": d, "k_max": 4}
    return eq07.shortcut_forcing_loss(**(case | change))  # type: ignore[arg-type]


def returns(**change: object) -> object:
    case = {"reward": rows, "value": np.zeros((2, 4)), "cont": rows}
    return eq10.lambda_returns(**(case | change))  # type: ignore[arg-type]


def policy(**change: object) -> object:
    case = {"logits": rows, "prior_logits": rows, "action": np.array([0, 1]), "advantage": np.array([1.0, -1.0])}
    return eq11.policy_loss(**(case | change))  # type: ignore[arg-type]


CASES: dict[str, Call] = {
    "Eq. (1): z1 has shape (3,), but must have that of z0, (2,)": lambda: velocity(np.zeros(2), np.zeros(3)),
    "Eq. (1): z0 has dtype float32, but must be float64": lambda: velocity(np.zeros(2, np.float32), np.zeros(2)),
    "Eq. (1): z0 is of type list, but must be a float64 array": lambda: velocity(
        [0.0],  # type: ignore[arg-type]
        np.zeros(1),
    ),
    "Eq. (1): tau has dtype int64, but must be float64": lambda: corrupt(z, z, np.zeros((2, 3), np.int64)),
    "Eq. (1): tau has shape (3,), but must have shape (2)": lambda: corrupt(z, z, np.zeros(3)),
    "Eq. (1): tau contains 1.5, but signal levels lie in [0, 1]": lambda: corrupt(z, z, tau + 1.5),
    "Eq. (8): tau contains nan, but signal levels lie in [0, 1]": lambda: ramp_weight(np.array([0.5, nan])),
    "Eq. (8): tau contains -0.1, but signal levels lie in [0, 1]": lambda: ramp_weight(np.array(-0.1)),
    "Eq. (2): tau contains 1.0, but signal levels lie in [0, 1), because 1 − τ divides": lambda: eq02.euler_step(
        z, z, tau + 1, d
    ),
    "Eq. (2): d contains 0.3, but step sizes are 1, 1/2, …": lambda: eq02.euler_step(z, z, tau, d - 0.2),
    "Eq. (2): tau + d reaches 1.25, but no step may lead past τ = 1": lambda: eq02.euler_step(z, z, tau + 0.75, d),
    "Eq. (2): x_tau has shape (2, 3, 1), but must have shape (2, 3, any, any)": lambda: eq02.euler_step(
        z[..., 0], z[..., 0], tau, d
    ),
    "Eq. (2): num_steps is 3, but must be a power of two: 1, 2, 4, …": lambda: eq02.sample(same, z, 3),
    "Eq. (2): x1_hat has shape (2, 3), but must have that of x_tau, (2, 3, 1, 1)": lambda: eq02.sample(
        lambda x, tau, d: tau, z, 2
    ),
    "Eq. (3): d contains 0.25, but step sizes are 1, 1/2, … down to 1/2": lambda: shortcut_target(
        same, z, z, tau, d / 2, 0.5
    ),
    "Eq. (3): d_min contains 0.3, but step sizes are 1, 1/2, …": lambda: shortcut_target(same, z, z, tau, d, 0.3),
    "Eq. (4): k_max is 6, but must be a power of two: 1, 2, 4, …": lambda: eq04.step_sizes(6),
    "Eq. (4): k_max is 0, but must be a power of two: 1, 2, 4, …": lambda: eq04.step_law(0),
    "Eq. (4): k_max is of type float, but must be an int": lambda: eq04.step_sizes(4.0),  # type: ignore[arg-type]
    "Eq. (4): d contains 0.75, but step sizes are 1, 1/2, …": lambda: eq04.signal_levels(Fraction(3, 4)),
    "Eq. (4): d is of type float, but must be a Fraction, as the grid is exact": lambda: eq04.signal_levels(
        0.5  # type: ignore[arg-type]
    ),
    "Eq. (4): rng is of type int, but must be a numpy.random.Generator": lambda: eq04.sample_tau_d(
        0,  # type: ignore[arg-type]
        4,
        (1,),
    ),
    "Eq. (4): d contains nan, but step sizes are 1, 1/2, …": lambda: eq04.on_grid(tau, d * nan),
    "Eq. (7): d contains 0.125, but step sizes are 1, 1/2, … down to 1/4": lambda: loss(d=d / 4),
    "Eq. (7): tau contains 0.25, which is not one of 0, d, …, 1 − d": lambda: loss(tau=tau + 0.25),
    "Eq. (7): tau contains 1.0, which is not one of 0, d, …, 1 − d": lambda: loss(tau=tau + 1),
    "Eq. (4): d has shape (2,), but must have that of tau, (2, 3)": lambda: loss(d=d[:, 0]),
    "Eq. (7): z1_hat has dtype float32, but must be float64": lambda: loss(
        network=lambda z, tau, d, actions: z.astype(np.float32)
    ),
    "Eq. (7): tau contains 1.0, but signal levels lie in [0, 1), because 1 − τ divides": lambda: eq07.bootstrap_target(
        same, z, tau + 0.75, d
    ),
    "Eq. (7): norm is 'max', but must be one of 'mean', 'sum'": lambda: loss(norm="max"),
    "Eq. (7): weighted is 'none', but must be one of 'both', 'flow'": lambda: loss(weighted="none"),
    "Eq. (7): reduction is 'sum', but must be one of 'none', 'mean'": lambda: loss(reduction="sum"),
    "Eq. (7): averaging is 'x', but must be one of 'joint', 'per_term'": lambda: eq07.average(
        tau,
        d,
        k_max=4,
        averaging="x",  # type: ignore[arg-type]
    ),
    "Eq. (7): loss has shape (0, 3), but an average needs at least one timestep": lambda: eq07.average(
        tau[:0], d[:0], k_max=4
    ),
    "Eq. (9): distances is (-1,), but must hold whole numbers ≥ 0, at least one": lambda: eq09.multi_token_targets(
        rows, (-1,)
    ),
    "Eq. (9): x has shape (3,), but must have shape (any, any)": lambda: eq09.multi_token_targets(rows[0], (0,)),
    "Eq. (9): valid has dtype int64, but must be bool": lambda: eq09.multi_token_loss(
        z[..., 0], flags.astype(np.int64)
    ),
    "Eq. (9): valid has shape (1, 3, 1), but must have shape (2, 3, 1)": lambda: eq09.multi_token_loss(
        z[..., 0], flags[:1]
    ),
    "Eq. (10): value has shape (2, 3), but must have shape (2, 4)": lambda: returns(value=rows),
    "Eq. (10): cont has shape (2, 2), but must have shape (2, 3)": lambda: returns(cont=rows[:, :2]),
    "Eq. (10): cont contains a value outside [0, 1], but must be a probability of continuing": lambda: returns(
        cont=rows - 1
    ),
    "Eq. (10): gamma is 1.5, but must lie in [0, 1]": lambda: returns(gamma=1.5),
    "Eq. (10): lam is nan, but must lie in [0, 1]": lambda: returns(lam=nan),
    "Eq. (10): mixture is 'v', but must be one of 'v_next', 'v_same'": lambda: returns(mixture="v"),
    "Eq. (10): pairing is 'u', but must be one of 't', 'next'": lambda: returns(pairing="u"),
    "Eq. (10): reward has shape (2, 0), but the horizon must be at least 1": lambda: returns(
        reward=rows[:, :0], cont=rows[:, :0], value=rows[:, :1]
    ),
    "Eq. (10): logits has shape (2, 3), but must have shape (1, 3)": lambda: eq10.value_loss(rows, np.zeros(1), bins),
    "Eq. (10): returns is empty, but a mean needs at least one return": lambda: eq10.value_loss(
        rows[:0], np.zeros(0), bins
    ),
    "Eq. (11): action has shape (3, 1), but must have shape (2, 1)": lambda: policy(action=np.array([0, 1, 2])),
    "Eq. (11): action has dtype float64, but must hold class indices": lambda: policy(action=np.zeros(2)),
    "Eq. (11): action contains a class outside 0 … 2 in component 0": lambda: policy(action=np.array([0, 3])),
    "Eq. (11): prior_logits[0] has shape (2, 2), but must have shape (2, 3)": lambda: policy(prior_logits=rows[:, :2]),
    "Eq. (11): alpha is 2, but must lie in [0, 1]": lambda: policy(alpha=2),
    "Eq. (11): advantage contains NaN, which belongs to neither D⁺ nor D⁻": lambda: policy(
        advantage=np.array([1, nan])
    ),
    "Eq. (11): 0 states, 1 logits and 1 prior_logits, but at least one state": lambda: policy(
        logits=rows[:0], prior_logits=rows[:0], action=np.zeros(0, np.int64), advantage=np.zeros(0)
    ),
    "two-hot: x contains NaN, but must hold numbers": lambda: twohot.twohot_encode(np.array([nan]), bins),
    "two-hot: bins has 3 values, but must hold at least 2, strictly increasing": lambda: twohot.twohot_encode(
        np.zeros(1), bins[::-1]
    ),
    "two-hot: p has shape (1, 2), but must have shape (any, 3)": lambda: twohot.twohot_decode(np.zeros((1, 2)), bins),
    "two-hot: num = 1, low = -20.0, high = 20.0, but needs at least 2 bins, symmetric about 0": lambda: (
        twohot.symexp_bins(1)
    ),
    "two-hot: space is 'log', but must be one of 'raw', 'symlog'": lambda: twohot.twohot_encode(
        np.zeros(1),
        bins,
        space="log",  # type: ignore[arg-type]
    ),
    "softmax: logits has dtype int64, but must be float64": lambda: twohot.softmax(np.zeros(2, np.int64)),
    "RMS normalisation: decay is 1.0, but must lie between 0 and 1": lambda: RunningRMS(decay=1.0),
}


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("sentence", CASES)
def test_bad_input_raises_the_documented_message(sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(sentence)):
        CASES[sentence]()


@pytest.mark.skipif(
    pytest.version_tuple < (9, 1), reason="pytest before 9.1 loads modules with doctests past jaxtyping's import hook"
)
def test_annotations_are_checked_in_these_tests() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        eq02.euler_step(z, z, tau[:1], d)
