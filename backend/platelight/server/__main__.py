"""``python -m platelight.server``."""

import sys

from platelight.resources import prefer_systems_libsodium, prepare_torch

if __name__ == "__main__":  # worker processes import this module where they cannot be forked
    prefer_systems_libsodium()
    prepare_torch()
    from platelight.server.serve import main

    sys.exit(main())
