"""``python -m neurosim`` is the command line."""

from neurosim.cli.main import main

if __name__ == "__main__":
    main()
