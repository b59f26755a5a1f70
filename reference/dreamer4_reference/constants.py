"""The numbers that the paper gives."""

from typing import Final

K: Final = 4
"""Denoising steps for each generated frame (Sec. 3.2, p. 6)."""

GAMMA: Final = 0.997
"""Discount γ of Eq. (10) (Sec. 3.3, p. 7)."""

ALPHA: Final = 0.5
"""Share α of the positive advantages in Eq. (11) (Sec. 3.3, p. 8)."""

BETA: Final = 0.3
"""Weight β of the pull towards the prior in Eq. (11) (Sec. 3.3, p. 8)."""

L: Final = 8
"""Largest distance that Eq. (9) predicts ahead (Sec. 3.3, p. 7); which distances run is reading A17."""

MAE_MAX: Final = 0.9
"""Upper end of p ~ U(0, 0.9), the share of patches that the tokenizer's training drops (Sec. 3.1)."""

LPIPS_WEIGHT: Final = 0.2
"""Weight of the perceptual term in Eq. (5) (Sec. 3.1, p. 5)."""

IMAGE_FRACTION: Final = 0.3
"""Share of the videos of a training batch that are treated as separate images (training recipe, Sec. 3 and App. A)."""

C: Final = 192
"""Context length in frames (Sec. 3.4); whether the current frame counts is reading A30."""

T1: Final = 64
"""Frames of a short training batch (training recipe, Sec. 3 and App. A)."""

T2: Final = 256
"""Frames of a long training batch (training recipe, Sec. 3 and App. A)."""

RELEVANT_FRACTION: Final = 0.5
"""Share of the sequences of agent finetuning in which the task is accomplished (training recipe, Sec. 3 and App. A)."""

TIME_EVERY: Final = 4
"""One layer in this many mixes time (Sec. 3.4)."""
