"""What each station does when it wakes: ports and senders, routers and trees, synapse stations and cores, somas, and the barrier between steps.

Tables and a station come in; its services, puts and the wakes that they cause go into the tables.
"""
