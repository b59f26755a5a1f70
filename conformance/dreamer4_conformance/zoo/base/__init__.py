"""The paper in plain PyTorch, one overridable step for each line of an equation.

Mistakes, equivalents and readings are built from it: a mistake is the textbook with one step wrong, an equivalent the
textbook with one step computed in another way, a reading the textbook with another option. It shares no code with the
implementation.
"""

from typing import Literal

from dreamer4_conformance.adapter import TorchAdapter
from dreamer4_conformance.readings import resolve
from dreamer4_conformance.zoo.base.algorithm1_training import Training
from dreamer4_conformance.zoo.base.constants import Constants
from dreamer4_conformance.zoo.base.eq02_sampling import Sampler
from dreamer4_conformance.zoo.base.eq04_grid import Schedule
from dreamer4_conformance.zoo.base.eq06_07_shortcut_forcing import ShortcutForcing
from dreamer4_conformance.zoo.base.eq09_multi_token import MultiToken
from dreamer4_conformance.zoo.base.eq10_lambda_return import Returns
from dreamer4_conformance.zoo.base.eq11_pmpo import Policy
from dreamer4_conformance.zoo.base.loss_normalisation import Normalisation
from dreamer4_conformance.zoo.base.sec31_tokenizer import Tokenizer
from dreamer4_conformance.zoo.base.twohot import TwoHot


class Book(Schedule, TorchAdapter):
    """Base of the textbook classes: level, readings and the schedule of Eq. (4).

    Attributes:
        conditional: whether loss and sampler pass the actions to the network.
        bins: raw values of the two-hot bins; None for symexp of 255 points between −20 and 20.
    """

    name = "textbook"
    version = "1"
    conditional = True
    bins: tuple[float, ...] | None = None

    def __init__(self, level: Literal["signal", "noise"] = "signal", **readings: str) -> None:
        self.level = level
        self.readings = readings
        self.follows = resolve(readings)


class TextbookLoss(ShortcutForcing, Book):
    """Eq. (1), (4) and (6)-(8), for specimens that differ in the loss only."""


class TextbookSampler(Sampler, Book):
    """Eq. (1), (2) and (4), for specimens that differ in the sampler only."""


class TextbookTraining(Training, ShortcutForcing, Policy, Book):
    """Algorithm 1 and checkpoints, with the paper's context length."""

    context_frames = 192


class TextbookEquations(ShortcutForcing, Sampler, Normalisation, MultiToken, TwoHot, Returns, Policy, Constants, Book):
    """Every equation of the paper, under any reading and in either level."""


class TextbookModel(Tokenizer, Book):
    """The model: attention, layers, tokenizer, dynamics."""


class Textbook(Training, Tokenizer, TextbookEquations):
    """The whole paper, under any reading and in either level.

    >>> Textbook(level="noise", A13="v_same").readings
    {'A13': 'v_same'}
    """
