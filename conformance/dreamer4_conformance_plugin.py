"""Options and report of the conformance suite for pytest; imports nothing heavy."""
