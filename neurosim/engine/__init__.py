"""The two engines: one semantics (docs/machine.md), one readable, one fast; ``run`` chooses between them, ``compare`` says where they differ."""
