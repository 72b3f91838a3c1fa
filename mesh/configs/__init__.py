"""How a configuration is found, read and checked; `mesh.config` is the door.

The built-in shop's `mesh.yaml` lies here too in an installed package.
"""
