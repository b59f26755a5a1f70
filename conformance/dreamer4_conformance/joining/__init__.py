"""The command `init`: an adapter skeleton, a test and a CI workflow for a user's package.

`sources` locates a package and reads its functions from the syntax trees, without executing any of it; `vocabulary` has
the names that implementations use for each operation and its arguments; `matching` pairs functions with operations;
`conventions` has what the user declares by options or answers; `skeleton` writes the files from `templates/`.
"""
