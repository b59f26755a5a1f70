"""The command `peers`: runs of the suite on public implementations, and the table of their verdicts.

`command` has the options and what is printed, `runs` the processes, `records` the reports that an earlier call left.
"""
