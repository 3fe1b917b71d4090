"""``python -m platelight.server``."""

import sys

from platelight.server.serve import main

sys.exit(main())
