"""Test vectors of the paper's pure operations for implementations in any language; README.md describes the format."""
