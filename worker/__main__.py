"""`python -m worker` is the program `worker`."""

from worker.cli.main import main

main()
