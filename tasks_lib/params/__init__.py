"""Groups of parameters that task types share: each name, range and default is written here once."""
