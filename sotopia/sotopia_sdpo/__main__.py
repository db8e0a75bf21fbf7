"""`python -m sotopia_sdpo`: the command `sotopia`."""

from sotopia_sdpo.cli import main


main()
