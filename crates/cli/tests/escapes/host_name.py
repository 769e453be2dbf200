# control: yes
import os


def attempt():
    return "escaped" if os.uname().nodename == HOST else "no"
