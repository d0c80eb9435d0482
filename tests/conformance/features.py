"""What the drawn cases may contain: a subject is switched off here while an engine is being taught it."""

BARRIER = False
RECURRENCE = False
TOPOLOGIES = True
CLUSTERS = False
CHIP_LINKS = True
DEAD_CORES = False
PORTS = False
TREES = False
DROPS = False
LOSS = False
WINDOWS = False
