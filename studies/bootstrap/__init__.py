"""What bootstrap training is for, and why it diverges in small networks: `python -m studies.bootstrap` makes the figures."""
