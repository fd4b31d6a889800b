"""Files, locks, digests, processes: what is below everything else."""
