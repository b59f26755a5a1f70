"""Backend "triton": fused attention kernels, and the operators of torch that launch them."""

from typing import Final

#: Widths of heads that the kernels prepare.
HEAD_WIDTHS: Final = (32, 64, 128)
