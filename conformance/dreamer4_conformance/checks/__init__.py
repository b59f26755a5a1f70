"""The checks, one module for each equation or group of clauses; importing the package registers them all."""

from dreamer4_conformance.registry import import_submodules

import_submodules(__name__, __path__)
