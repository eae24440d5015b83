"""The tests; a package, so that the names of its parts begin with it."""
