# control: yes
import os


def attempt():
    os.symlink(FOLDER + "/secret", "link")
    return open("link").read() and "escaped"
