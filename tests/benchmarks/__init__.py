"""What `make bench` measures, each module beside its peer in the same run."""
