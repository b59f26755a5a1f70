"""The numbers that the paper states, by the paper's names. Numbers that it leaves open (A26) are default arguments."""

from typing import Final

K: Final = 4
"""Denoising steps per generated frame (Sec. 3.2, p. 6)."""

GAMMA: Final = 0.997
"""Discount γ of Eq. (10) (Sec. 3.3, p. 7)."""

ALPHA: Final = 0.5
"""Weight α of the positive advantages in Eq. (11), in [0, 1] (Sec. 3.3, p. 8)."""

BETA: Final = 0.3
"""Weight β of the KL to the prior in Eq. (11) (Sec. 3.3, p. 8)."""

L: Final = 8
"""Largest distance that Eq. (9) predicts ahead (Sec. 3.3, p. 7); the set of distances is reading A17."""

MAE_MAX: Final = 0.9
"""Upper end of p ~ U(0, 0.9), the probability of dropping a patch in the tokenizer's training (Sec. 3.1)."""

LPIPS_WEIGHT: Final = 0.2
"""Weight of the perceptual term in Eq. (5) (Sec. 3.1, p. 5)."""

IMAGE_SHARE: Final = 0.3
"""Share of the videos of a training batch that are treated as separate images (training recipe, Sec. 3 and App. A)."""

C: Final = 192
"""Context length in frames (Sec. 3.4); whether the current frame counts is reading A30."""

T1: Final = 64
"""Frames of a short training batch (training recipe, Sec. 3 and App. A)."""

T2: Final = 256
"""Frames of a long training batch (training recipe, Sec. 3 and App. A)."""

RELEVANT_SHARE: Final = 0.5
"""Share of the sequences of agent finetuning in which the task is accomplished (training recipe, Sec. 3 and App. A)."""

TIME_EVERY: Final = 4
"""Period of the layers that mix time (Sec. 3.4)."""
