"""`python -m bench`: the command `bench` where the folder of scripts is not on the PATH."""

from bench.cli import main

if __name__ == "__main__":
    main()
