"""The contract, `proto/credvault/v1/`, as `generate.py` makes it: messages, stubs, and their types.

Nothing here is written by hand but this line.
"""
