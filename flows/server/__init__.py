"""Prefect around a store: servers, workers, deployments, keys, and who is let in."""
