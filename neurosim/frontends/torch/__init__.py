"""A ``torch.nn.Module`` or a factory comes in, a Network goes out.

``module`` is the way in: ``export`` traces, ``walk`` follows the traced graph node by node (``ops``, ``linear``, ``sums``, ``events`` say what a
node becomes; ``values`` and ``gather`` carry which element is which), ``neurons`` and ``libraries`` know neuron classes, ``verify`` compares with
the module. ``options``, ``neurons`` and ``libraries`` do not import torch."""
