"""`python -m vol3d` is `vol3d`."""

from vol3d.cli import main

if __name__ == "__main__":
    main()
