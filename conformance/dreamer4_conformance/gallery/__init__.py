"""The commands on public implementations: `peers` judges them, `gallery` shows their reports, `curves` records curves.

`command` has the options of `peers` and what is printed, `runs` the processes, `records` the reports that an earlier
call left. `publication` has the options of `gallery` and `curves`; `entries` reads reports, `derivations` and `curves`,
`page` and `plots` draw the page, `markdown` adds derivations to a report, `badges` writes badges, `recording` computes
curves.
"""
