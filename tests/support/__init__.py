"""What the tests and the programs share; tests/README.md says which module has what."""
