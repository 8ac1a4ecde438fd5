"""``python -m rocketrank`` is the command ``rq``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
