"""What is measured on a GPU, in stages of one command each; see run.sh."""
