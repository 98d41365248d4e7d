"""A launch: from a command line to jobs, their results and their end."""
