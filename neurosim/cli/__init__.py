"""The command line: a thin layer over ``neurosim.api``. Entry point: ``neurosim.cli.main``."""
