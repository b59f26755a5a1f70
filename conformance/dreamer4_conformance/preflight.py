"""First contact: an adapter that cannot work at all is told so in a sentence, before any clause is judged."""

from __future__ import annotations

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.subject import Subject


def examine(adapter: Adapter | type[Adapter]) -> Subject:
    """The adapter bound to its readings. Raises AdapterError."""
    return Subject(adapter() if isinstance(adapter, type) else adapter)
