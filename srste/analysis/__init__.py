"""What is said of many studies: statistics and alarms."""
