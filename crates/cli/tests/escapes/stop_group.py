# control: yes
import os


def attempt():
    # Signal 0 only asks whether one may: a success does no harm.
    os.killpg(os.getpgid(PID), 0)
    return "escaped"
