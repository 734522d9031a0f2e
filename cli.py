"""`python cli.py COMMAND`: starts recjob.cli."""

from recjob.cli import main

if __name__ == "__main__":
    main()
