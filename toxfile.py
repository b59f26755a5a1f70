"""Lets tox environments that name the same `env_dir` use one virtual environment.

tox writes the name of the environment into the directory and rebuilds everything when another name comes by. Here
seven environments need the same packages, PyTorch among them, so the name is left out of that comparison; all else
(kind of environment, Python, dependencies) is still compared, and a difference still rebuilds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class SharedInfo(Info):
    """What tox remembers of a virtual environment, without the name under which it was made."""

    @contextmanager
    def compare(self, value: Any, section: str, sub_section: str | None = None) -> Iterator[tuple[bool, Any | None]]:
        """Compare as tox does, but take every environment to have the name "shared"."""
        if section == ToxEnv.__name__:
            value = value | {"name": "shared"}
        with super().compare(value, section, sub_section) as outcome:
            yield outcome


class SharedRunner(VirtualEnvRunner):
    """A virtual environment that several tox environments use one after the other; chosen by `runner = shared`."""

    @staticmethod
    def id() -> str:
        """Name the runner for `tox.ini`."""
        return "shared"

    @property
    def cache(self) -> Info:
        """Remember the state of the last set-up."""
        return SharedInfo(self.env_dir)


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    """Offer the runner to `tox.ini`."""
    register.add_run_env(SharedRunner)
