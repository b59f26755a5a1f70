"""Games and policies that serve as experiments and as examples of how to write one's own."""
