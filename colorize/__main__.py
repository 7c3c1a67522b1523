"`python -m colorize` is `colorize`: so `accelerate launch -m colorize train ...` can start it in many processes."
# By hand, not exported.
from colorize.cli import app

if __name__ == '__main__':
    app(prog_name='colorize')
