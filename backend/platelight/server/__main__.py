"""``python -m platelight.server``."""

import sys

from platelight.server.serve import main

if __name__ == "__main__":  # worker processes import this module where they cannot be forked
    sys.exit(main())
