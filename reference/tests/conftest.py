"""Every call of the reference is checked against its annotated shapes and types, in tests only."""

from collections.abc import Iterator

import jaxtyping
import pytest

# The numeric tower lets an int stand where a float is annotated, as type checkers do.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook("dreamer4_reference", CHECKER)


@pytest.fixture
def as_installed() -> Iterator[None]:
    """Disable the checks of annotations, so that the reference raises its own exceptions as it does for users."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
