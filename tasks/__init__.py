"""Thin Prefect tasks: cache key, retries, one library call, publish."""
