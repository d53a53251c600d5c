"""What the exit code of a command says."""

from __future__ import annotations

DONE = 0
FAILED = 1
CALLED_WRONGLY = 2
PUT_BACK = 3  # jobs had to be put back
AGAIN = 75  # EX_TEMPFAIL of sysexits.h: a worker that is in good order, but needs a fresh process
