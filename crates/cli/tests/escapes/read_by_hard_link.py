# control: yes
import os


def attempt():
    os.link(FOLDER + "/secret", FOLDER + "/hard")
    os.remove(FOLDER + "/hard")
    return "escaped"
