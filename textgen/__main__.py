"""``python -m textgen`` is ``textgen``."""

import sys

from textgen.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
