"""Running a sweep's jobs in other processes: of this machine, or of a Slurm cluster."""
