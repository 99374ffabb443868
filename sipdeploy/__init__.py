"""One YAML file becomes a running, proven WebRTC calling system."""

__version__ = "0.1.0"
