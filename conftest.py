"""Environment of the tests, set before torch and Triton are imported.

One thread for torch: its tensors are tiny here, and the tests use one process per core. Without a GPU, Triton kernels
run under Triton's interpreter. Signals that a background job or nohup ignores have their effect again, also in the
processes that tests start.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
