"""Network -> Program: lowering, quantising, partition, placement, routes, static checks, audit."""
