"""`python -m remind ...`, as torchrun starts it: the command `remind`."""

from remind.cli import main

if __name__ == "__main__":
    main()
