"""Sets the project up from nothing: run as `python -m deploy.setup`, with the standard library only.

Read in this order: `__main__` (the steps), `check` (what must be there before any download), `install` (pip's
commands), `browser` (which the tests alone need), `stamp` (why a second start installs nothing), `lock` (how the pins
are made).
"""
