"""`python -m srste`: see `srste.commands.main`."""

import sys

from srste.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
