"""``python -m platelight.server``."""

import sys

from platelight.resources import prefer_huge_pages, prefer_systems_libsodium

if __name__ == "__main__":  # worker processes import this module where they cannot be forked
    prefer_systems_libsodium()
    prefer_huge_pages()
    from platelight.server.serve import main

    sys.exit(main())
