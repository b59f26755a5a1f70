"""Where a run happens: what its figures depend on, and nothing that names a person or a machine."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("torch", "triton", "numpy")


def environment() -> dict[str, Any]:
    """GPU, driver and versions; "CPU, smoke" in place of the GPU where there is none."""
    import torch

    about: dict[str, Any] = {"gpu": "CPU, smoke"}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        about = {
            "gpu": properties.name,
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "multiprocessors": properties.multi_processor_count,
            "CUDA": torch.version.cuda,
            "driver": _said_by("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    packages = {name: _installed(name) for name in PACKAGES}
    return about | {"Python": platform.python_version(), **packages, "commit": _said_by("git", "rev-parse", "HEAD")}


def slug(name: str) -> str:
    """A name for a file.

    >>> slug("NVIDIA H200")
    'nvidia-h200'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _said_by(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
