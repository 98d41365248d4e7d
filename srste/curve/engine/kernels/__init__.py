"""The compiled loops of the loss curve."""
