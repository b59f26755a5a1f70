"""Adapters: of the bundled implementation, and of other people's. The only place that may import an implementation."""
