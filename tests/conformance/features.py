"""What the drawn cases may contain: a subject is switched off here while an engine is being taught it."""

BARRIER = True
RECURRENCE = True
TOPOLOGIES = True
CLUSTERS = True
CHIP_LINKS = True
DEAD_CORES = True
PORTS = True
TREES = True
DROPS = True
LOSS = True
WINDOWS = True
