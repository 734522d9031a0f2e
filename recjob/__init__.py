"""recjob: the nightly outfit recommendation job of a fashion shop."""

__version__ = "0.1.0"
