"""The paper's default values, each with its source; a comment says where the paper gives none."""

from typing import Final

#: Eq. (4): finest step is 1/K_MAX. The paper gives no value (reading A26).
K_MAX: Final = 64
#: Sec. 3.2, p. 6: denoising evaluations of a frame at inference.
SAMPLING_STEPS: Final = 4
#: Sec. 3.2, p. 6 prints "slightly corrupt ... to signal level 0.1"; read as 10 % noise (reading A9).
CONTEXT_LEVEL: Final = 0.9
#: Eq. (5), Sec. 3.1, p. 5: weight of the perceptual term.
LPIPS_WEIGHT: Final = 0.2
#: Sec. 3.1, p. 5: patches are dropped with probability p ~ U(0, MAE_MAX_DROP).
MAE_MAX_DROP: Final = 0.9
#: Eq. (9), Sec. 3.3, p. 7: longest prediction distance L.
MTP_LENGTH: Final = 8
#: Eq. (10), Sec. 3.3, p. 7: discount factor γ.
GAMMA: Final = 0.997
#: Eq. (10): λ. The paper gives no value (reading A26); 0.95 is that of Dreamer 3.
LAMBDA: Final = 0.95
#: Eq. (11), Sec. 3.3, p. 8: share of the positive set in PMPO.
ALPHA: Final = 0.5
#: Eq. (11), Sec. 3.3, p. 8: weight of the KL to the behavioural prior.
BETA: Final = 0.3
#: Sec. 3.4: share of the videos of a batch that are treated as separate images.
IMAGE_SHARE: Final = 0.3
#: Running RMS of the loss terms: decay of the average. The paper gives no value (reading A24).
RMS_DECAY: Final = 0.99
#: Two-hot bins: number, and their outer edges in symlog space. Not given; those of Dreamer 3.
TWOHOT_BINS: Final = 255
TWOHOT_LIMIT: Final = 20.0
#: Sec. 3.2, p. 6: context length C of the dynamics, and the lengths T1 and T2 of short and long training batches.
CONTEXT_LENGTH: Final = 192
SHORT_LENGTH: Final = 64
LONG_LENGTH: Final = 256
#: Sec. 4: classes of the Minecraft mouse, 11 for each axis, and the number of keys and buttons.
MOUSE_BINS: Final = 11
MINECRAFT_BINARIES: Final = 23
#: μ-law of the mouse: degrees beyond which a movement is clipped, and μ. Not given; those of the VPT data.
MOUSE_LIMIT: Final = 10.0
MOUSE_MU: Final = 10.0
