"""The class `Adapter`: declarations, operations by section of the paper, and conversions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np

from dreamer4_conformance.adapter.attention import AttentionOperations
from dreamer4_conformance.adapter.dynamics import DynamicsOperations
from dreamer4_conformance.adapter.heads import HeadsOperations
from dreamer4_conformance.adapter.imagination import ImaginationOperations
from dreamer4_conformance.adapter.layers import LayersOperations
from dreamer4_conformance.adapter.operation import Array
from dreamer4_conformance.adapter.shortcut_forcing import ShortcutForcingOperations
from dreamer4_conformance.adapter.tokenizer import TokenizerOperations
from dreamer4_conformance.adapter.training import TrainingOperations
from dreamer4_conformance.verdicts import NotProvided


class Adapter(
    ShortcutForcingOperations,
    TokenizerOperations,
    DynamicsOperations,
    HeadsOperations,
    ImaginationOperations,
    AttentionOperations,
    LayersOperations,
    TrainingOperations,
):
    """Interface of an implementation in NumPy. Subclass `TorchAdapter` or `JaxAdapter` for those frameworks.

    Attributes:
        name: shown in reports, for example "me/dreamer4".
        version: shown in reports.
        level: "signal" if tau = 1 is clean data in the adapted code, "noise" if tau = 1 is pure noise.
        k_max: K_max; the finest step size is 1 / k_max. A power of two.
        device: where the operations run, for example "cpu" or "cuda:0". `--device` overrides it.
        dtype: in which dtype the operations run, one of `dtypes`. `--dtype` overrides it.
        readings: reading id → option, only where it differs from the default (`dreamer4_conformance.readings`).
        expected_failures: clause id → reason. Strict like pytest's strict xfail: an unexpected pass fails.
        not_testable: operation → reason, where the code has the equation but seals it inside a larger function, so that
            it cannot be called from outside. Its clauses are `not-provided`, and say why.
        min_batch: smallest B that `sample_tau_d`, `dynamics_loss` and `patch_dropout` work with as intended, at least
            1.
        min_time: smallest T that `dynamics_loss` and `dynamics_loss_at` work with, at least 1.
        d_min_share: with reading A2 "split", the share of rows, or of timesteps, at d = 1 / k_max, in [0, 1].
        context_level: with reading A9 "level", the signal level of context frames, in [0, 1].
        rms_warmup: number of values per loss term after which the running RMS is judged (A24), at least 0.
        dtypes: dtypes that the framework supports.
        backends: names that `attention` accepts as `backend=`; empty if it has one implementation.
        registers: number of register tokens per frame of `dynamics` (A26), 0 without any; None leaves the answer to
            `modality_mask`, which raises ValueError for modalities that the model does not have.
        context_frames: C of `dynamics` and `time_layer`, in frames as reading A30 counts them; None if time attention
            has no window.
        few_shapes: True if each new shape takes seconds, in compiled code for example; checks then repeat shapes.
    """

    name: str = "unnamed"
    version: str = "0"
    level: Literal["signal", "noise"] = "signal"
    k_max: int = 64
    device: str = "cpu"
    dtype: str = "float32"
    readings: Mapping[str, str] = {}
    expected_failures: Mapping[str, str] = {}
    not_testable: Mapping[str, str] = {}
    min_batch: int = 1
    min_time: int = 1
    d_min_share: float | None = None
    context_level: float = 0.9
    rms_warmup: int = 1000
    dtypes: Sequence[str] = ("float64", "float32")
    backends: Sequence[str] = ()
    registers: int | None = None
    context_frames: int | None = None
    few_shapes: bool = False

    # Conversions, random state and gradients, which the framework's subclass overrides

    def to_native(self, x: np.ndarray) -> Array:
        """Convert a NumPy array to an argument of an operation.

        Args:
            x: floats, integers or booleans, of any shape.

        Returns:
            A copy, so that in-place operations do not change the suite's arrays: floats in `dtype` on `device`;
            integers and booleans in their dtype.
        """
        return x.astype(self.dtype if x.dtype.kind == "f" else x.dtype)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Convert a result of an operation to NumPy.

        Args:
            x: an array of the framework or a number.

        Returns:
            Floats as float64; integers and booleans in their dtype.

        Raises:
            TypeError: if x is not numeric.
        """
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"an array of dtype {array.dtype}")
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Surround each call of an operation that takes a seed. NumPy adapters must use the seed themselves.

        Args:
            seed: of the operation, in [0, 2³¹).

        Returns:
            A context manager, which does nothing here.
        """
        yield

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """Evaluate the suite's analytic network: gain z + offset + past Σ earlier frames, differentiable in z.

        Args:
            z: input, float (N, T, S, D).
            gain: slope of the network in z, float64, broadcasts to z.
            offset: constant of the network, float64, broadcasts to z.
            past: slope of the network in the sum of earlier frames, float64, broadcasts to z.

        Returns:
            float (N, T, S, D), rounded once to the dtype of z.
        """
        wide = np.asarray(z, np.float64)
        return (gain * wide + offset + past * wide[:, :-1].sum(1)[:, None]).astype(np.asarray(z).dtype)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray | None] | None]:
        """Differentiate a loss with respect to the network's outputs.

        Args:
            loss: function of `probe`; it passes each output of the network through `probe` and uses the result. Its
                value is a scalar or (B, T), which is averaged first.

        Returns:
            The value, and one float64 gradient for each output in the order of the calls, None for an output that the
            value does not depend on, if the framework reports that. None instead of the list if the framework has no
            gradients or the value carries none.
        """
        return loss(lambda output: output), None

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """Differentiate the mean of `function(*inputs)` with respect to each input.

        Args:
            function: takes the inputs, returns an array.
            inputs: arrays of the framework, floats.

        Returns:
            One float64 gradient for each input, zeros if the function does not depend on it.

        Raises:
            NotProvided: if the framework has no gradients.
        """
        raise NotProvided("gradients need a TorchAdapter or a JaxAdapter")


def provides(adapter: Adapter, name: str) -> bool:
    """Check whether an adapter overrides an operation.

    Args:
        adapter: the instance to inspect.
        name: of the operation, one of `OPERATIONS`.

    Returns:
        True if its class or the instance itself overrides it.
    """
    return name in vars(adapter) or getattr(type(adapter), name) is not getattr(Adapter, name)
