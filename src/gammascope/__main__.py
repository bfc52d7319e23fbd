"""``python -m gammascope``: the command line, for launchers of modules (``accelerate launch -m gammascope``)."""

from gammascope.cli.app import main

if __name__ == "__main__":
    main()
