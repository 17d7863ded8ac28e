"""`python -m simgan_cli` is the same program as `simgan`."""

from simgan_cli.cli.app import main

if __name__ == "__main__":
    main()
