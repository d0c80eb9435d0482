"""The host section of a Program: from user data to what the I/O port injects."""

from neurosim.host.activity import InputActivity, input_activity
from neurosim.host.checks import REPAIRS
from neurosim.host.data import Samples, load_data
from neurosim.host.encode import encode
from neurosim.host.recordings import EventOptions, Recordings, event_options
from neurosim.host.section import build_host, host_macs, run_host
from neurosim.host.stimulus import Stimulus

__all__ = [
    "REPAIRS",
    "EventOptions",
    "InputActivity",
    "Recordings",
    "Samples",
    "Stimulus",
    "build_host",
    "encode",
    "event_options",
    "host_macs",
    "input_activity",
    "load_data",
    "run_host",
]
