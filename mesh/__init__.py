"""mesh: run a system of microservices on one machine, exercise it, and prove that nothing was lost."""

__version__ = "0.1.0"
