# control: yes
import os


def attempt():
    # Signal 0 only asks whether one may: a success does no harm.
    os.kill(-1, 0)
    return "escaped"
