"""The suite for `pytest --pyargs dreamer4_conformance.suite --dreamer4=module:attr`."""
