"""`python -m nnie_prep`."""

from __future__ import annotations

import sys

from nnie_prep.cli import main

if __name__ == "__main__":
    sys.exit(main())
