"""Look at the HDF5 files of a store in a browser: h5web, served on this machine alone, read-only."""
