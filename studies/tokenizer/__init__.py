"""How fast the tokenizer of a preset learns, against steps and processor seconds."""
