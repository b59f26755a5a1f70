"""Environment of the tests, set before torch and Triton are imported.

One thread for torch: its tensors are tiny here, and the tests use one process per core. Without a GPU, Triton kernels
run under Triton's interpreter.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
