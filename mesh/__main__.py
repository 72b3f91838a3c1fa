"""`python -m mesh` is the same as the installed command `mesh`."""

from mesh.cli import main

if __name__ == "__main__":
    main()
