"""Network + Chip -> Program.

One pipeline (``pipeline``) of rooms: ``check`` (is each layer native, rewritten or refused, and why), ``lower`` (Network -> Graph in real numbers),
``quantize`` (-> Graph in the chip's integers), ``place`` (-> slices on cores), ``emit`` (-> Program), ``audit`` (Program against Graph, with no
code of the passes). ``report`` says what came out. import-linter holds the order: a room imports only those that stand below it."""
