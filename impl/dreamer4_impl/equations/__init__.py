"""The paper's equations in PyTorch, one module per equation, with the stems of the reference."""
