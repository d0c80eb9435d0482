"""A Program comes in, the flat arrays that the kernel runs on go out. Nothing here is compiled, and nothing of ``base`` is imported."""
