"""Tokenizer, dynamics, agent and their configurations."""
