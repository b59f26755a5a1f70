"""Attention along space or time: the function `attention`, its backends, and the cache of keys and values."""

from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.attention.dispatch import BACKENDS, attention, prepare_keys
from dreamer4_impl.attention.eager import soft_cap
from dreamer4_impl.attention.folding import Axis
from dreamer4_impl.attention.qk_preparation import Preparation, prepare
from dreamer4_impl.attention.visibility import Visible

__all__ = ["BACKENDS", "Axis", "Cache", "Preparation", "Visible", "attention", "prepare", "prepare_keys", "soft_cap"]
