"""`python -m gesso.cli` is `gesso`."""

import sys

from gesso.cli.main import main

sys.exit(main())
