"""A package, so that its platform ends with its last test: in a plain folder, package fixtures live to the very end."""
