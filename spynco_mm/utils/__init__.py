"""What everything else may use, and which uses nothing of this package but ``compat``."""
