"""Readers of event data sets as they are published: the user's own copies of N-MNIST, DVS128 Gesture, CIFAR10-DVS and SHD, and our DATA.npz.

They live beside the other readers of the field's files, above ``host``, because SHD needs h5py, which nothing that the compiler or an engine imports
may need. What they give, ``host.Recordings``, is plain arrays with the sensor's own timestamps; nothing is binned, sorted or dropped here.
"""

from neurosim.frontends.recordings.read import is_recordings, read_recordings

__all__ = ["is_recordings", "read_recordings"]
