"""Modules that only Sphinx imports: the tests run without the extra `docs`."""

collect_ignore = ["conf.py", "generator/extension.py"]
