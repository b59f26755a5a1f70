"""Study of bootstrap training: its benefit, and why it can diverge in small networks; see README.md."""
