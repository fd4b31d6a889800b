"""What runs: one Prefect flow per stage, the end-to-end flow and the command line."""
