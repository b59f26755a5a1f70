"""Environment of a run: hardware and versions that the figures depend on, without names of people or hosts."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "triton", "numpy")


def environment() -> dict[str, Any]:
    """GPU, driver and versions by name; the GPU is "CPU, smoke" if CUDA is not available."""
    import torch

    about: dict[str, Any] = {"gpu": "CPU, smoke"}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        about = {
            "gpu": properties.name,
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "multiprocessors": properties.multi_processor_count,
            "CUDA": torch.version.cuda,
            "driver": _output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    packages = {name: _installed(name) for name in PACKAGES}
    return about | {"Python": platform.python_version(), **packages, "commit": _output_of("git", "rev-parse", "HEAD")}


def slug(name: str) -> str:
    """File name made from a text: lower case, with hyphens.

    >>> slug("NVIDIA H200")
    'nvidia-h200'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _output_of(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
