"""`python -m pgq_sync` is `pgq-sync`."""

from pgq_sync.cli.main import main

if __name__ == "__main__":
    main()
