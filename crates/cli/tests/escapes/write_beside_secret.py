# control: yes
import os


def attempt():
    assert os.path.exists(FOLDER + "/secret")
    open(FOLDER + "/written", "w").close()
    os.remove(FOLDER + "/written")
    return "escaped"
