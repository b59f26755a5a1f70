"""Questions about the paper that small trainings answer: each folder is one, with its figures and the command that makes them."""
