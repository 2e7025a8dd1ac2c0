"""`python -m bench`: the same command as `bench`, for where the scripts folder is not on the path."""

from bench.cli import main

if __name__ == "__main__":
    main()
