"""`python -m warmstart` is the command `warmstart`, where that is not on the PATH."""

from deploy.cli import start

if __name__ == "__main__":
    start()
