"""Statistics and alarms over many studies."""
